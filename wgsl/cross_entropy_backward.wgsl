// dstudent[r][k] = upstream[term(r)] weights[r] / TAU (mass softmax(s / TAU)_k - sum_p t_k), with the log-sum-exp and
// the mass (sum of the targets) of each row saved by the forward pass. R rows of K, PAIRS target rows each (NONE: no
// row).
// A row without weight or targets gets 0, whatever its logits hold.
// A workgroup owns 4 WIDTH columns of one row. FLOPs: (6 + PAIRS) R K. Bytes: 4 (2 R K + targets).
// include lib/wide_rows.wgsl
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> student: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read> pairs: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> term_of_row: array<u32>;
@group(0) @binding(6) var<storage, read> upstream: array<f32>;
@group(0) @binding(7) var<storage, read_write> dstudent: array<f32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let piece = group.y * groups.x + group.x;
  let row = piece / PIECES;
  if (row >= R) {
    return;
  }
  let columns = four_columns((piece % PIECES) * 4u * WIDTH + index);
  let at = min(columns, vec4<u32>(K - 1u));
  let s = row * K + at;
  var d = vec4<f32>(0.0);
  // A row that was left out of the loss has no mass; one with a weight and an all-zero target has gradient 0 as well.
  let mass = statistics[row].y;
  if (mass != 0.0) {
    let z = vec4<f32>(student[s.x], student[s.y], student[s.z], student[s.w]) / TAU;
    var t = vec4<f32>(0.0);
    for (var p = 0u; p < PAIRS; p++) {
      let target_row = pairs[row * PAIRS + p];
      if (target_row != NONE) {
        let a = target_row * K + at;
        t += vec4<f32>(targets[a.x], targets[a.y], targets[a.z], targets[a.w]);
      }
    }
    let scale = upstream[term_of_row[row]] * weights[row] / TAU;
    d = scale * (mass * exp(z - statistics[row].x) - t);
  }
  for (var j = 0u; j < 4u; j++) {
    if (columns[j] < K) {
      dstudent[row * K + columns[j]] = d[j];
    }
  }
}
