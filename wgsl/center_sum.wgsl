// partial[part][k] = sum of z[i][k] over the part's rows, of the rows FROM to FROM + ROWS - 1 of K teacher logits; only
// the first count[0] are used (COUNTED). center_update.wgsl adds the PARTS parts in order.
// An invocation owns one column of one part; neighbours own neighbouring columns.
// FLOPs: ROWS K. Bytes: 4 (ROWS + PARTS) K.
// include lib/used_rows.wgsl
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = id.x;
  let part = id.y;
  if (k >= K) {
    return;
  }
  let begin = part * ROWS_PER_PART;
  let end = min(used_rows(), begin + ROWS_PER_PART);
  var sum = 0.0;
  for (var row = begin; row < end; row++) {
    sum += logits[(FROM + row) * K + k];
  }
  partial[part * K + k] = sum;
}
