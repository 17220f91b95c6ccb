// Gradients of w[k] = g[k] v[k] / |v[k]|, with n = v[k] / |v[k]|: dg[k] = n . dw[k] and
// dv[k] = g[k] / |v[k]| (dw[k] - n dg[k]), for K rows of D values.
// A workgroup owns ROWS rows. FLOPs: 7 K D. Bytes: 4 (3 K D + 3 K).
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> v: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> inverse_norms: array<f32>;
@group(0) @binding(3) var<storage, read> dw: array<f32>;
@group(0) @binding(4) var<storage, read_write> dv: array<f32>;
@group(0) @binding(5) var<storage, read_write> dg: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let source = min(row, K - 1u);
  let inverse = inverse_norms[source];
  var along = 0.0;
  for (var c = lane; c < D; c += LANES) {
    along += v[source * D + c] * inverse * dw[source * D + c];
  }
  along = row_sum(index, along);
  if (row >= K) {
    return;
  }
  let scale = g[row] * inverse;
  for (var c = lane; c < D; c += LANES) {
    dv[row * D + c] = scale * (dw[row * D + c] - v[row * D + c] * inverse * along);
  }
  if (lane == 0u) {
    dg[row] = along;
  }
}
