// gathered[r] = source[index[r]] for ROWS rows of WIDTH quads: chosen tokens of a packed batch. An invocation owns one quad.
// FLOPs: 0. Bytes: 8 ROWS WIDTH times an element's, 4 ROWS for the index.
@group(0) @binding(0) var<storage, read> source: array<Quad>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> gathered: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < ROWS * WIDTH) {
    gathered[i] = source[index[i / WIDTH] * WIDTH + i % WIDTH];
  }
}
