// taken[r, c] = sum over i < repeat of x[r repeat + i, first + c]: takes a range of columns out of a wider matrix and adds
// `repeat` rows to one: the gradient of place_columns.wgsl. Widths in quads. An invocation owns one quad of the result.
// FLOPs: 1 a value read. Bytes: 4 (1 + 1 / repeat) a value read.
struct Columns {
  rows: u32,
  width: u32,
  first: u32,
  x_width: u32,
  repeat: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> taken: array<Quad>;
@group(0) @binding(2) var<storage, read> sizes: Columns;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let r = i / sizes.width;
  let c = i % sizes.width;
  if (r >= sizes.rows) {
    return;
  }
  var sum = Quad();
  for (var k = 0u; k < sizes.repeat; k++) {
    sum += x[(r * sizes.repeat + k) * sizes.x_width + sizes.first + c];
  }
  taken[i] = sum;
}
