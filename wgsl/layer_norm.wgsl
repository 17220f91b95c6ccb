// y[r] = (x[s] - mean) * rstd * weight + bias, with s = rows[r] (GATHER) or r: layer-norm of R rows of D values,
// biased variance, two passes over the row. Saves mean and rstd [R, 2] for the backward pass.
// A workgroup owns ROWS rows. FLOPs: 8 R D. Bytes: 4 (2 R D + 2 R + 2 D).
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let live = row < R;
  let lane = index % LANES;
  var source = min(row, R - 1u);
  if (GATHER) {
    source = rows[source];
  }
  var sum = 0.0;
  for (var c = lane; c < D; c += LANES) {
    sum += x[source * D + c];
  }
  let mean = row_sum(index, sum) / f32(D);
  var squares = 0.0;
  for (var c = lane; c < D; c += LANES) {
    let d = x[source * D + c] - mean;
    squares += d * d;
  }
  let rstd = inverseSqrt(row_sum(index, squares) / f32(D) + EPS);
  if (!live) {
    return;
  }
  for (var c = lane; c < D; c += LANES) {
    y[row * D + c] = (x[source * D + c] - mean) * rstd * weight[c] + bias[c];
  }
  if (lane == 0u) {
    statistics[row] = vec2<f32>(mean, rstd);
  }
}
