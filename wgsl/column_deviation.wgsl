// deviation[c] = sqrt(mean over r of (x[r][c] - mean[c])^2) / D for R rows of D values: each column's share of the mean
// standard deviation. An invocation owns one column, two passes over the rows. FLOPs: 4 R D. Bytes: 4 (R D + D).
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> deviation: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  if (c >= D) {
    return;
  }
  var sum = 0.0;
  for (var r = 0u; r < R; r++) {
    sum += x[r * D + c];
  }
  let mean = sum / f32(R);
  var squares = 0.0;
  for (var r = 0u; r < R; r++) {
    let d = x[r * D + c] - mean;
    squares += d * d;
  }
  deviation[c] = sqrt(squares / f32(R)) / f32(D);
}
