// Softmax cross-entropy of R rows for GROUPS classifiers side by side (logits [R, PITCH], CLASSES columns a group), all with
// the row's label: losses[r, g] f32 [R, LOSS_PITCH], and logits become their gradient, SCALE (p - onehot). Small losses keep
// their digits: log(1 + others) where the label leads, and its gradient is minus the others' sum, never p - 1.
// A workgroup owns ROWS pairs of row and group, LANES invocations each.
// parameters: R, GROUPS, CLASSES, PITCH, LOSS_PITCH, SCALE (f32 bits). FLOPs: 6 R GROUPS CLASSES. Bytes: 8 R PITCH + 4 R.
@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@group(0) @binding(3) var<storage, read> parameters: array<u32>;

// include lib/rows.wgsl
// include lib/row_max.wgsl

// log(1 + x) for x >= 0; below 1/16 by its series, whose next term is under a float32's rounding.
fn log_one_plus(x: f32) -> f32 {
  if (x < 0.0625) {
    return x * (1.0 - x * (0.5 - x * (1.0 / 3.0 - x * (0.25 - x * (0.2 - x / 6.0)))));
  }
  return log(1.0 + x);
}

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let pairs = parameters[0] * parameters[1];
  let pair = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let row = min(pair, pairs - 1u) / parameters[1];
  let member = min(pair, pairs - 1u) % parameters[1];
  let classes = parameters[2];
  let first = row * parameters[3] + member * classes;
  let label = labels[row];
  let own_logit = logits[first + label];
  var largest = own_logit;
  for (var c = lane; c < classes; c += LANES) {
    largest = max(largest, logits[first + c]);
  }
  largest = row_max(index, largest);
  var others = 0.0;
  for (var c = lane; c < classes; c += LANES) {
    if (c != label) {
      others += exp(logits[first + c] - largest);
    }
  }
  others = row_sum(index, others);
  if (pair >= pairs) {
    return;
  }
  let total = others + exp(own_logit - largest);
  let scale = bitcast<f32>(parameters[5]);
  for (var c = lane; c < classes; c += LANES) {
    var p = -others;
    if (c != label) {
      p = exp(logits[first + c] - largest);
    }
    logits[first + c] = scale * p / total;
  }
  if (lane == 0u) {
    var loss = log(total) + (largest - own_logit);
    if (own_logit == largest) {
      loss = log_one_plus(others);
    }
    losses[row * parameters[4] + member] = loss;
  }
}
