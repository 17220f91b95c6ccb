// entropy[i] = -sum_k p log p (0 log 0 = 0) / (rows used), for the rows FROM to FROM + ROWS - 1 of K probabilities; 0
// beyond the count[0] used ones (COUNTED). Their sum is the mean entropy of the targets.
// A workgroup owns one row. FLOPs: 3 ROWS K. Bytes: 4 (ROWS K + ROWS).
// include lib/wide_rows.wgsl
// include lib/used_rows.wgsl
@group(0) @binding(0) var<storage, read> targets: array<f32>;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> entropy: array<f32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) {
    return;
  }
  let used = used_rows();
  var sum = 0.0;
  if (row < used) {
    for (var k = index; k < K; k += WIDTH) {
      let p = targets[(FROM + row) * K + k];
      if (p > 0.0) {
        sum -= p * log(p);
      }
    }
  }
  sum = wide_sum(index, sum);
  if (index == 0u) {
    entropy[row] = sum / f32(max(used, 1u));
  }
}
