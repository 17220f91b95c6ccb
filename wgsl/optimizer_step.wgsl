// What the optimizer does in this step (specification 3.1): norms[m] = L2 norm over the sub-module m's parameters; its
// coefficient = min(1, max_norm / (norm + 1e-6)) / loss scale; flags[m] = 1 where a gradient of m is not finite. Any flag
// makes all coefficients 0, which tells the optimizer to leave the weights as they are. The only place where the loss
// scale's state changes: everything before still uses the scale that this step's losses were multiplied by.
// modules [P] is the sub-module of each parameter. One workgroup does all M. FLOPs: 2 P M. Bytes: 12 P + 12 M + 112.
// include lib/rows.wgsl
// include lib/loss_scale.wgsl
// include lib/optimizer_step.wgsl
@group(0) @binding(0) var<storage, read> parameter_norms: array<f32>;
@group(0) @binding(1) var<storage, read> unusable: array<u32>;
@group(0) @binding(2) var<storage, read> modules: array<u32>;
@group(0) @binding(3) var<storage, read> rates: Rates;
@group(0) @binding(4) var<storage, read_write> state: LossScale;
@group(0) @binding(5) var<storage, read_write> step: Step;
@group(0) @binding(6) var<storage, read_write> norms: array<f32>;
@group(0) @binding(7) var<storage, read_write> flags: array<u32>;

// 1 - (1 - rate)^count by repeated squaring, on the complements: only sums of positive terms, so nothing cancels.
fn complement_of_power(rate: f32, count: u32) -> f32 {
  var result = 0.0;
  var square = rate;
  for (var bits = count; bits != 0u; bits >>= 1u) {
    if ((bits & 1u) != 0u) {
      result += square * (1.0 - result);
    }
    square += square * (1.0 - square);
  }
  return result;
}

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
      if (rates.max_norm > 0.0) {
        coefficient = min(1.0, rates.max_norm / (norm + 1e-6));
      }
      norms[m] = norm;
      step.coefficients[m] = select(coefficient * state.inverse, 0.0, skip);
      flags[m] = u32(module_bad);
    }
  }
  if (lane != 0u) {
    return;
  }
  let count = u32(state.applied_steps) + 1u;
  step.rates = rates;
  step.correction1 = 1.0 / complement_of_power(rates.rate1, count);
  step.correction2 = 1.0 / sqrt(complement_of_power(rates.rate2, count));
  if (skip) {
    state.skipped_steps += 1.0;
    state.clean_steps = 0.0;
    if (state.scale > 1.0) {
      state.scale *= 0.5;
      state.inverse *= 2.0;
    }
    return;
  }
  state.applied_steps += 1.0;
  if (GROWTH_INTERVAL == 0) {
    return;
  }
  state.clean_steps += 1.0;
  if (state.clean_steps >= GROWTH_INTERVAL) {
    state.clean_steps = 0.0;
    if (state.scale < MAX_SCALE) {
      state.scale *= 2.0;
      state.inverse *= 0.5;
    }
  }
}
