// ds = p (dp - sum p dp) for R rows of L, p = softmax s. A workgroup owns ROWS rows, LANES invocations each, and reads them
// twice. FLOPs: 4 R L. Bytes: 12 R L.
// include lib/rows.wgsl
struct Sizes {
  R: u32,
  L: u32,
}
@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> dp: array<f32>;
@group(0) @binding(2) var<storage, read_write> ds: array<f32>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  // Rows past the last one work on it too, so that all invocations reach the barriers, and write nothing.
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let base = min(row, sizes.R - 1u) * sizes.L;
  let lane = index % LANES;
  var sum = 0.0;
  for (var k = lane; k < sizes.L; k += LANES) {
    sum += p[base + k] * dp[base + k];
  }
  let total = row_sum(index, sum);
  if (row >= sizes.R) {
    return;
  }
  for (var k = lane; k < sizes.L; k += LANES) {
    ds[base + k] = p[base + k] * (dp[base + k] - total);
  }
}
