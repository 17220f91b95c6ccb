// y += bias, to each row of COUNT quads in rows of QUADS. A workgroup owns 256 quads, an invocation one.
// FLOPs: 4 COUNT. Bytes: 32 COUNT + 16 QUADS.
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bias: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    y[i] += bias[i % QUADS];
  }
}
