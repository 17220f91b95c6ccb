// dx[index[FROM + r]] = dy[r] for the first ROWS rows, with COUNTED only the first count[0] of them; dx is zero before.
// No row is named twice. Rows have QUADS quads; a workgroup owns 256 of them, an invocation one.
// FLOPs: none. Bytes: ROWS (32 QUADS + 4).
@group(0) @binding(0) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read> count: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  let r = i / QUADS;
  if (r >= ROWS || (COUNTED && r >= count[0])) {
    return;
  }
  dx[index[FROM + r] * QUADS + i % QUADS] = dy[i];
}
