// partial[part][k] = sum of z[i][k] over the part's rows of a tile of ROWS rows of K teacher logits; used rows only.
// CONTINUED: added to what partial holds of the tiles before. center_update.wgsl adds the PARTS parts in order.
// An invocation owns one column of one part; neighbours own neighbouring columns.
// FLOPs: ROWS K. Bytes: 4 (ROWS + PARTS) K, CONTINUED 4 (ROWS + 2 PARTS) K.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
// include lib/used_rows.wgsl

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = id.x;
  let part = id.y;
  if (k >= K) {
    return;
  }
  let begin = part * tile.rows_per_part;
  let end = min(used_rows(), begin + tile.rows_per_part);
  var sum = 0.0;
  if (CONTINUED) {
    sum = partial[part * K + k];
  }
  for (var row = begin; row < end; row++) {
    sum += logits[row * K + k];
  }
  partial[part * K + k] = sum;
}
