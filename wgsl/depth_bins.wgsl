// Depth of a row of logits [rows, bins]: r = max(logit, 0) + 0.1, depth = sum r_k centres_k / sum r_k (the expected depth
// under shares r / sum r). Keeps sum r for the gradient. A workgroup owns ROWS rows, LANES invocations share one.
// FLOPs: 5 a logit. Bytes: 4 a logit, 8 a row.
// include lib/rows.wgsl
struct Sizes {
  rows: u32,
  bins: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> centres: array<f32>;
@group(0) @binding(2) var<storage, read_write> depth: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read> sizes: Sizes;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let first = min(row, sizes.rows - 1u) * sizes.bins;
  var sum = 0.0;
  var weighted = 0.0;
  for (var k = lane; k < sizes.bins; k += LANES) {
    let r = max(logits[first + k], 0.0) + 0.1;
    sum += r;
    weighted += r * centres[k];
  }
  sum = row_sum(index, sum);
  weighted = row_sum(index, weighted);
  if (row < sizes.rows && lane == 0u) {
    depth[row] = weighted / sum;
    sums[row] = sum;
  }
}
