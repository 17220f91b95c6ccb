// The q third of d_qkv [T, 3, HEADS, HEAD_DIM]: dq[r] = sum over rows j of ds[r, j] k[j], with p = exp(SCALE q[r] . k[j] - lse)
// and ds = SCALE p (d_out[r] . v[j] - delta), recomputed tile by tile.
// Layout and division of work: lib/attention.wgsl, own rows = queries, met rows = keys.
// FLOPs: 6 HEAD_DIM HEADS sum(length^2). Bytes: 5 T HEADS HEAD_DIM times an element's, 8 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> d_out: array<Quad>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<Quad>;
// include lib/attention.wgsl

// ds of a key tile, [head][key][own]: a vec4 holds one key's with the four rows of an invocation.
var<workgroup> slopes: array<vec4<f32>, UNITS * OWN * MET * 4>;

@compute @workgroup_size(UNITS * OWN * MET)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= arrayLength(&tiles) * HEAD_GROUPS) {
    return;
  }
  let tile = tiles[index / HEAD_GROUPS];
  let at = place_of(index, lane);
  let rows = arrayLength(&lse) / HEADS;
  var q: array<u32, 4>;
  var upstream: array<u32, 4>;
  var log_sum: vec4<f32>;
  var mean_slope: vec4<f32>;
  for (var i = 0u; i < 4u; i++) {
    let row = min(tile.z + at.own + i * OWN, tile.w - 1u);
    q[i] = q_at(row, at.head);
    upstream[i] = out_at(row, at.head);
    log_sum[i] = lse[at.head * rows + row];
    mean_slope[i] = delta[at.head * rows + row];
  }
  var sum: array<array<vec4<f32>, 4>, SHARE>;

  for (var first = tile.x; first < tile.y; first += 4u * MET) {
    var k: array<u32, 4>;
    for (var j = 0u; j < 4u; j++) {
      k[j] = k_at(min(first + at.met + j * MET, tile.y - 1u), at.head);
    }
    let score = products(q, k);
    // Written out: Dawn (webgpu 0.6.2) zeroes an array declared in a loop only once.
    var slope = array<vec4<f32>, 4>();
    let quads = quads_of_head();
    for (var d = 0u; d < quads; d++) {
      let g0 = unpack_quad(d_out[upstream[0] + d]);
      let g1 = unpack_quad(d_out[upstream[1] + d]);
      let g2 = unpack_quad(d_out[upstream[2] + d]);
      let g3 = unpack_quad(d_out[upstream[3] + d]);
      for (var j = 0u; j < 4u; j++) {
        let value = unpack_quad(qkv[k[j] + WIDTH + d]);
        slope[j] += vec4<f32>(dot(g0, value), dot(g1, value), dot(g2, value), dot(g3, value));
      }
    }
    workgroupBarrier();
    for (var j = 0u; j < 4u; j++) {
      let p = exp(score[j] * SCALE - log_sum);
      slopes[4u * at.base + (at.met + j * MET) * OWN + at.own] = SCALE * p * (slope[j] - mean_slope);
    }
    workgroupBarrier();

    let end = min(first + 4u * MET, tile.y);
    for (var key = first; key < end; key++) {
      let ds = slopes[4u * at.base + (key - first) * OWN + at.own];
      let row = k_at(key, at.head);
      for (var c = 0u; c < SHARE; c++) {
        let value = unpack_quad(qkv[row + min(at.met + c * MET, QUADS - 1u)]);
        for (var i = 0u; i < 4u; i++) {
          sum[c][i] += ds[i] * value;
        }
      }
    }
  }
  if (!at.live) {
    return;
  }
  for (var row = tile.z + at.own; row < tile.w; row += OWN) {
    for (var c = 0u; c < SHARE; c++) {
      if (at.met + c * MET < QUADS) {
        d_qkv[q_at(row, at.head) + at.met + c * MET] = pack_quad(pick(sum[c], (row - tile.z) / OWN));
      }
    }
  }
}
