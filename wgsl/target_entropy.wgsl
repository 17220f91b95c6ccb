// entropy[i] = -sum_k p log p (0 log 0 = 0) / ROWS for ROWS rows of K probabilities. Their sum is the mean entropy of the
// targets. A workgroup owns one row. FLOPs: 3 ROWS K. Bytes: 4 (ROWS K + ROWS).
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> targets: array<f32>;
@group(0) @binding(1) var<storage, read_write> entropy: array<f32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) {
    return;
  }
  var sum = 0.0;
  for (var k = index; k < K; k += WIDTH) {
    let p = targets[row * K + k];
    if (p > 0.0) {
      sum -= p * log(p);
    }
  }
  sum = wide_sum(index, sum);
  if (index == 0u) {
    entropy[row] = sum / f32(ROWS);
  }
}
