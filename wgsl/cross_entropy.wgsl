// loss[r] = weights[r] sum_p CE(targets[pairs[r][p]], student[r]) with CE(t, s) = -sum_k t_k log_softmax(s / TAU)_k: R
// rows of K student logits, PAIRS target rows each (NONE: no row). Saves per row the log-sum-exp of s / TAU and the sum
// of the targets [R, 2]. A row without weight or targets gives 0, whatever its logits hold.
// A workgroup owns one row and reads it once: each lane keeps its maximum m, sum exp(z - m), sum t (m - z) and sum t;
// all terms are positive, so nothing cancels. FLOPs: (10 + PAIRS) R K. Bytes: 4 (R K + targets + R (4 + PAIRS)).
// include lib/wide_rows.wgsl
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> student: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read> pairs: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2<f32>>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= R) {
    return;
  }
  var live = false;
  for (var p = 0u; p < PAIRS; p++) {
    live = live || pairs[row * PAIRS + p] != NONE;
  }
  if (!live || weights[row] == 0.0) {
    if (index == 0u) {
      loss[row] = 0.0;
      statistics[row] = vec2<f32>(0.0, 0.0);
    }
    return;
  }
  let base = row * K;
  var largest = student[base + min(index, K - 1u)] / TAU;
  var sum = 0.0;
  var cross = 0.0;
  var mass = 0.0;
  for (var first = index; first < K; first += 4u * WIDTH) {
    let columns = four_columns(first);
    let inside = columns < vec4<u32>(K);
    let at = min(columns, vec4<u32>(K - 1u));
    let s = base + at;
    let z = vec4<f32>(student[s.x], student[s.y], student[s.z], student[s.w]) / TAU;
    var t = vec4<f32>(0.0);
    for (var p = 0u; p < PAIRS; p++) {
      let target_row = pairs[row * PAIRS + p];
      if (target_row != NONE) {
        let a = target_row * K + at;
        t += vec4<f32>(targets[a.x], targets[a.y], targets[a.z], targets[a.w]);
      }
    }
    let larger = max(largest, max_of_four(z));
    cross += mass * (larger - largest) + sum_of_four(t * (larger - z), inside);
    sum = sum * exp(largest - larger) + sum_of_four(exp(z - larger), inside);
    mass += sum_of_four(t, inside);
    largest = larger;
  }
  let row_largest = wide_max(index, largest);
  let log_sum = log(wide_sum(index, sum * exp(largest - row_largest)));
  let row_cross = wide_sum(index, cross + mass * (row_largest - largest));
  let row_mass = wide_sum(index, mass);
  if (index == 0u) {
    loss[row] = weights[row] * (row_cross + row_mass * log_sum);
    statistics[row] = vec2<f32>(row_largest + log_sum, row_mass);
  }
}
