// y[r] = x[index[FROM + r]] for ROWS rows of QUADS quads. A workgroup owns 256 quads, an invocation one.
// FLOPs: none. Bytes: ROWS (32 QUADS + 4).
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < ROWS * QUADS) {
    y[i] = x[index[FROM + i / QUADS] * QUADS + i % QUADS];
  }
}
