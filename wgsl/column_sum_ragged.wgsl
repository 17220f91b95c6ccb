// Partial column sums of x [rows, columns] of any width: partial[p, c] = sum of x[r, c] over r = p, p + parts, ...
// Neighbouring parts read neighbouring rows, which keeps the reads of narrow matrices together. sum_partials.wgsl adds the
// parts. An invocation owns one column of one part. FLOPs: 1 a value. Bytes: 4 a value, 4 parts columns.
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
  if (i >= sizes.parts * sizes.columns) {
    return;
  }
  var sum = 0.0;
  for (var r = i / sizes.columns; r < sizes.rows; r += sizes.parts) {
    sum += x[r * sizes.columns + i % sizes.columns];
  }
  partial[i] = sum;
}
