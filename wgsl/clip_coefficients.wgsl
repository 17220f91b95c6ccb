// Gradient clipping a sub-module (specification 3.1): norms[m] = L2 norm over its parameters, coefficients[m] =
// min(1, max_norm / (norm + 1e-6)), or 1 where max_norm <= 0; flags[m] = 1 where a gradient of m is not finite.
// Any flag makes all coefficients 0, which tells the optimizer to leave the weights as they are.
// modules [P] is the sub-module of each parameter. One workgroup does all M. FLOPs: 2 P M. Bytes: 12 P + 12 M.
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> parameter_norms: array<f32>;
@group(0) @binding(1) var<storage, read> unusable: array<u32>;
@group(0) @binding(2) var<storage, read> modules: array<u32>;
@group(0) @binding(3) var<storage, read> max_norm: array<f32>;
@group(0) @binding(4) var<storage, read_write> norms: array<f32>;
@group(0) @binding(5) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(6) var<storage, read_write> flags: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var any_bad = 0.0;
  for (var p = lane; p < P; p += 64u) {
    any_bad += f32(unusable[p]);
  }
  let skip = row_sum(lane, any_bad) > 0.0;
  for (var m = 0u; m < M; m++) {
    var squares = 0.0;
    var bad = 0.0;
    for (var p = lane; p < P; p += 64u) {
      if (modules[p] == m) {
        squares += parameter_norms[p] * parameter_norms[p];
        bad += f32(unusable[p]);
      }
    }
    let norm = sqrt(row_sum(lane, squares));
    let module_bad = row_sum(lane, bad) > 0.0;
    if (lane == 0u) {
      var coefficient = 1.0;
      if (max_norm[0] > 0.0) {
        coefficient = min(1.0, max_norm[0] / (norm + 1e-6));
      }
      norms[m] = norm;
      coefficients[m] = select(coefficient, 0.0, skip);
      flags[m] = u32(module_bad);
    }
  }
}
