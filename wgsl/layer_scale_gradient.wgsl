// dgamma[n] = (sum over k of weight[n, k] dweight[n, k] + bias[n] dbias[n]) / gamma[n] for N rows of K = 4 QUADS: as the
// gradient of branch = a weightᵀ + bias already holds gamma, the sum is gamma[n] times that of dout . branch.
// Where gamma[n] is 0, so is that gradient, and the quotient is unknown: dgamma[n] is 0 then.
// A workgroup owns ROWS rows. FLOPs: 2 N K. Bytes: 8 N K + 8 N, and 8 N more with BIAS.
@group(0) @binding(0) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dweight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> dbias: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> dgamma: array<f32>;

const SMALLEST = 1e-12;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let first = min(row, N - 1u) * QUADS;
  var products = vec4<f32>();
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      products += weight[first + c] * dweight[first + c];
    }
  }
  var sum = row_sum(index, dot(products, vec4<f32>(1.0)));
  if (row >= N || lane > 0u) {
    return;
  }
  if (BIAS) {
    sum += bias[row] * dbias[row];
  }
  let scale = gamma[row];
  if (abs(scale) < SMALLEST) {
    dgamma[row] = 0.0;
  } else {
    dgamma[row] = sum / scale;
  }
}
