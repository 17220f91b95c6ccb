// Partial moments of the columns of x [rows, columns] over rows p, p + parts, ...: partial[p, 0, c] their mean and
// partial[p, 1, c] the sum of squared differences from it, by Welford's update, which does not cancel where the mean is
// large. batch_norm_statistics.wgsl joins the parts. An invocation owns one column of one part.
// FLOPs: 6 a value. Bytes: 4 a value, 8 parts columns.
struct Sizes {
  rows: u32,
  columns: u32,
  parts: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let part = i / sizes.columns;
  let c = i % sizes.columns;
  if (part >= sizes.parts) {
    return;
  }
  var count = 0.0;
  var mean = 0.0;
  var squares = 0.0;
  for (var r = part; r < sizes.rows; r += sizes.parts) {
    let value = x[r * sizes.columns + c];
    let before = value - mean;
    count += 1.0;
    mean += before / count;
    squares += before * (value - mean);
  }
  partial[2u * part * sizes.columns + c] = mean;
  partial[(2u * part + 1u) * sizes.columns + c] = squares;
}
