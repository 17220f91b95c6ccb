// out[t] = sum of values[r] for starts[t] <= r < starts[t + 1]: rows of a loss to its terms, in a fixed order.
// A workgroup owns one of T terms: lanes add every 256th row in turn, then a tree of fixed shape adds the lanes.
// FLOPs: N (rows). Bytes: 4 (N + T).
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  var sum = 0.0;
  for (var r = starts[group.x] + index; r < starts[group.x + 1u]; r += WIDTH) {
    sum += values[r];
  }
  sum = wide_sum(index, sum);
  if (index == 0u) {
    out[group.x] = sum;
  }
}
