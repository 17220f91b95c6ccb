// p = softmax s for R rows of L scores. A workgroup owns ROWS rows, LANES invocations each, and reads them twice.
// FLOPs: 7 R L. Bytes: 8 R L.
// include lib/rows.wgsl
// include lib/row_max.wgsl
struct Sizes {
  R: u32,
  L: u32,
}
@group(0) @binding(0) var<storage, read> s: array<f32>;
@group(0) @binding(1) var<storage, read_write> p: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: Sizes;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  // Rows past the last one work on it too, so that all invocations reach the barriers, and write nothing.
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let base = min(row, sizes.R - 1u) * sizes.L;
  let lane = index % LANES;
  var largest = s[base + min(lane, sizes.L - 1u)];
  var sum = 0.0;
  for (var k = lane; k < sizes.L; k += LANES) {
    let v = s[base + k];
    let larger = max(largest, v);
    sum = sum * exp(largest - larger) + exp(v - larger);
    largest = larger;
  }
  let row_largest = row_max(index, largest);
  let scale = 1.0 / row_sum(index, sum * exp(largest - row_largest));
  if (row >= sizes.R) {
    return;
  }
  for (var k = lane; k < sizes.L; k += LANES) {
    p[base + k] = exp(s[base + k] - row_largest) * scale;
  }
}
