// Partial column sums of x [R, D]: partial[p][c] = sum of x[r, c] over the rows of part p. sum_partials.wgsl adds the parts.
// An invocation owns one column of one part; neighbours own neighbouring columns. FLOPs: R D. Bytes: 4 (R D + PARTS D).
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  if (c >= D) {
    return;
  }
  var sum = 0.0;
  let end = min(R, (id.y + 1u) * ROWS_PER_PART);
  for (var r = id.y * ROWS_PER_PART; r < end; r++) {
    sum += x[r * D + c];
  }
  partial[id.y * D + c] = sum;
}
