// loss[before + r] = -weights[before + r] sum_k t_k l_k for ROWS rows r of K = 4 QUADS log-probabilities l and target
// probabilities t. A workgroup owns one row. FLOPs: 2 ROWS K. Bytes: 4 K (ROWS + target rows).
// include lib/wide_rows.wgsl
// include plain/lib/loss_rows.wgsl
@group(0) @binding(0) var<storage, read> log_probabilities: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read> rows: LossRows;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let r = group.y * groups.x + group.x;
  if (r >= ROWS) {
    return;
  }
  let t = target_row(rows, r) * QUADS;
  var sum = 0.0;
  for (var q = index; q < QUADS; q += WIDTH) {
    sum -= dot(targets[t + q], log_probabilities[r * QUADS + q]);
  }
  let total = wide_sum(index, sum);
  if (index == 0u) {
    loss[rows.before + r] = weights[rows.before + r] * total;
  }
}
