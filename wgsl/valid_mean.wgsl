// mean = sum / max(count, 1) from partial [2, parts]: sums of a loss over some rows, then how many of them count; totals =
// (sum, count) for the gradient. Nothing counted gives exactly 0. One workgroup: lanes add every 256th part in turn, then
// a tree of fixed shape adds the lanes. FLOPs: 2 parts. Bytes: 8 parts.
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> totals: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read> parts: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) index: u32) {
  var sum = 0.0;
  var count = 0.0;
  for (var p = index; p < parts[0]; p += WIDTH) {
    sum += partial[p];
    count += partial[parts[0] + p];
  }
  sum = wide_sum(index, sum);
  count = wide_sum(index, count);
  if (index == 0u) {
    totals[0] = sum;
    totals[1] = count;
    mean[0] = sum / max(count, 1.0);
  }
}
