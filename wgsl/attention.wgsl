// out[r] = sum over the rows j of r's sequence of softmax_j(q[r] . k[j] * SCALE) v[j], head by head, without a score matrix:
// online softmax over blocks of KEYS rows. A row of qkv [T, 3 HEADS HEAD_DIM] holds all q heads, all k heads, all v heads.
// Saves lse [HEADS, T], the log of each row's sum of exponentials, for the backward pass. out is [T, HEADS HEAD_DIM].
// A workgroup owns one head of ROWS query rows of one sequence, an invocation one row: q and its sum stay in registers,
// and all invocations read the same k and v at once, so these come through the cache as one load.
// FLOPs: 4 HEAD_DIM HEADS sum(length^2). Bytes: 4 T (4 HEADS HEAD_DIM + HEADS).
// include lib/attention.wgsl
@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let unit = group.y * groups.x + group.x;
  if (unit >= TILES * HEADS) {
    return;
  }
  let head = unit % HEADS;
  let tile = tiles[unit / HEADS];
  // Spare invocations repeat the last row and write nothing: control flow stays uniform.
  let row = min(tile.z + lane, tile.w - 1u);

  var q: array<vec4<f32>, QUADS>;
  var sum: array<vec4<f32>, QUADS>;
  for (var d = 0u; d < QUADS; d++) {
    q[d] = qkv[q_at(row, head) + d] * SCALE;
    sum[d] = vec4<f32>(0.0);
  }
  var largest = LOWEST;
  var total = 0.0;
  for (var block = tile.x; block < tile.y; block += KEYS) {
    var score: array<f32, KEYS>;
    for (var j = 0u; j < KEYS; j++) {
      let k = k_at(min(block + j, tile.y - 1u), head);
      var products = vec4<f32>(0.0);
      for (var d = 0u; d < QUADS; d++) {
        products += q[d] * qkv[k + d];
      }
      score[j] = select(LOWEST, products.x + products.y + products.z + products.w, block + j < tile.y);
    }
    var next = largest;
    for (var j = 0u; j < KEYS; j++) {
      next = max(next, score[j]);
    }
    let decay = exp(largest - next);
    largest = next;
    total *= decay;
    for (var d = 0u; d < QUADS; d++) {
      sum[d] *= decay;
    }
    for (var j = 0u; j < KEYS; j++) {
      let p = exp(score[j] - next);
      total += p;
      let v = v_at(min(block + j, tile.y - 1u), head);
      for (var d = 0u; d < QUADS; d++) {
        sum[d] += p * qkv[v + d];
      }
    }
  }
  if (tile.z + lane < tile.w) {
    for (var d = 0u; d < QUADS; d++) {
      out[out_at(row, head) + d] = sum[d] / total;
    }
    lse[head * T + row] = largest + log(total);
  }
}
