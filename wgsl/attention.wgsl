// out[r] = sum over rows j of r's sequence of softmax_j(SCALE q[r] . k[j]) v[j], head by head, without a score matrix: online
// softmax over tiles of 4 MET keys. Layout and division of work: lib/attention.wgsl, own rows = queries, met rows = keys.
// Saves lse [HEADS, T], the log of each row's sum of exponentials, for the backward pass.
// FLOPs: 4 HEAD_DIM HEADS sum(length^2). Bytes: 4 T HEADS HEAD_DIM times an element's, 4 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
// include lib/attention.wgsl
const LOWEST: f32 = -3.0e38;

// Scores of a key tile, [head][key][own]: a vec4 holds one key's scores with the four rows of an invocation.
var<workgroup> scores: array<vec4<f32>, UNITS * OWN * MET * 4>;
// The largest scores of an invocation, row by row, [head][met][own].
var<workgroup> peaks: array<vec4<f32>, UNITS * OWN * MET>;

@compute @workgroup_size(UNITS * OWN * MET)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= arrayLength(&tiles) * HEAD_GROUPS) {
    return;
  }
  let tile = tiles[index / HEAD_GROUPS];
  let at = place_of(index, lane);
  var q: array<u32, 4>;
  for (var i = 0u; i < 4u; i++) {
    q[i] = q_at(min(tile.z + at.own + i * OWN, tile.w - 1u), at.head);
  }
  var sum: array<array<vec4<f32>, 4>, SHARE>;
  var largest = vec4<f32>(LOWEST);
  var total = vec4<f32>(0.0);

  for (var first = tile.x; first < tile.y; first += 4u * MET) {
    var k: array<u32, 4>;
    for (var j = 0u; j < 4u; j++) {
      k[j] = k_at(min(first + at.met + j * MET, tile.y - 1u), at.head);
    }
    var score = products(q, k);
    var peak = vec4<f32>(LOWEST);
    for (var j = 0u; j < 4u; j++) {
      score[j] = select(vec4<f32>(LOWEST), score[j] * SCALE, first + at.met + j * MET < tile.y);
      peak = max(peak, score[j]);
    }
    workgroupBarrier();
    for (var j = 0u; j < 4u; j++) {
      scores[4u * at.base + (at.met + j * MET) * OWN + at.own] = score[j];
    }
    peaks[at.base + at.met * OWN + at.own] = peak;
    workgroupBarrier();

    var next = largest;
    let met_end = min(MET, tile.y - first);
    for (var met = 0u; met < met_end; met++) {
      next = max(next, peaks[at.base + met * OWN + at.own]);
    }
    let decay = exp(largest - next);
    largest = next;
    total *= decay;
    for (var c = 0u; c < SHARE; c++) {
      for (var i = 0u; i < 4u; i++) {
        sum[c][i] *= decay[i];
      }
    }
    let end = min(first + 4u * MET, tile.y);
    for (var key = first; key < end; key++) {
      let p = exp(scores[4u * at.base + (key - first) * OWN + at.own] - largest);
      total += p;
      let v = v_at(key, at.head);
      for (var c = 0u; c < SHARE; c++) {
        let value = unpack_quad(qkv[v + min(at.met + c * MET, QUADS - 1u)]);
        for (var i = 0u; i < 4u; i++) {
          sum[c][i] += p[i] * value;
        }
      }
    }
  }
  if (!at.live) {
    return;
  }
  let rows = arrayLength(&lse) / HEADS;
  for (var row = tile.z + at.own; row < tile.w; row += OWN) {
    let i = (row - tile.z) / OWN;
    for (var c = 0u; c < SHARE; c++) {
      if (at.met + c * MET < QUADS) {
        out[out_at(row, at.head) + at.met + c * MET] = pack_quad(pick(sum[c], i) / total[i]);
      }
    }
    if (at.met == 0u) {
      lse[at.head * rows + row] = largest[i] + log(total[i]);
    }
  }
}
