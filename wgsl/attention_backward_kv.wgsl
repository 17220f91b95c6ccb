// The k and v thirds of d_qkv [T, 3, HEADS, HEAD_DIM]: dv[j] = sum over rows r of p[r, j] d_out[r], dk[j] = sum of ds[r, j] q[r],
// with p = exp(SCALE q[r] . k[j] - lse) and ds = SCALE p (d_out[r] . v[j] - delta), recomputed tile by tile.
// Layout and division of work: lib/attention.wgsl, own rows = keys, met rows = queries.
// FLOPs: 8 HEAD_DIM HEADS sum(length^2). Bytes: 6 T HEADS HEAD_DIM times an element's, 8 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> d_out: array<Quad>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<Quad>;
// include lib/attention.wgsl

// p and ds of a query tile, [head][query][own]: a vec4 holds one query's with the four keys of an invocation.
var<workgroup> weights: array<vec4<f32>, UNITS * OWN * MET * 4>;
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
  var k: array<u32, 4>;
  for (var i = 0u; i < 4u; i++) {
    k[i] = k_at(min(tile.z + at.own + i * OWN, tile.w - 1u), at.head);
  }
  var dk: array<array<vec4<f32>, 4>, SHARE>;
  var dv: array<array<vec4<f32>, 4>, SHARE>;

  for (var first = tile.x; first < tile.y; first += 4u * MET) {
    var q: array<u32, 4>;
    var met_row: array<u32, 4>;
    for (var j = 0u; j < 4u; j++) {
      met_row[j] = min(first + at.met + j * MET, tile.y - 1u);
      q[j] = q_at(met_row[j], at.head);
    }
    let score = products(k, q);
    // Written out: Dawn (webgpu 0.6.2) zeroes an array declared in a loop only once.
    var slope = array<vec4<f32>, 4>();
    let quads = quads_of_head();
    for (var d = 0u; d < quads; d++) {
      let v0 = unpack_quad(qkv[k[0] + WIDTH + d]);
      let v1 = unpack_quad(qkv[k[1] + WIDTH + d]);
      let v2 = unpack_quad(qkv[k[2] + WIDTH + d]);
      let v3 = unpack_quad(qkv[k[3] + WIDTH + d]);
      for (var j = 0u; j < 4u; j++) {
        let upstream = unpack_quad(d_out[out_at(met_row[j], at.head) + d]);
        slope[j] += vec4<f32>(dot(v0, upstream), dot(v1, upstream), dot(v2, upstream), dot(v3, upstream));
      }
    }
    workgroupBarrier();
    for (var j = 0u; j < 4u; j++) {
      let statistics = at.head * rows + met_row[j];
      let p = exp(score[j] * SCALE - lse[statistics]);
      let slot = 4u * at.base + (at.met + j * MET) * OWN + at.own;
      weights[slot] = p;
      slopes[slot] = SCALE * p * (slope[j] - delta[statistics]);
    }
    workgroupBarrier();

    let end = min(first + 4u * MET, tile.y);
    for (var query = first; query < end; query++) {
      let slot = 4u * at.base + (query - first) * OWN + at.own;
      let p = weights[slot];
      let ds = slopes[slot];
      for (var c = 0u; c < SHARE; c++) {
        let column = min(at.met + c * MET, QUADS - 1u);
        let upstream = unpack_quad(d_out[out_at(query, at.head) + column]);
        let q_value = unpack_quad(qkv[q_at(query, at.head) + column]);
        for (var i = 0u; i < 4u; i++) {
          dv[c][i] += p[i] * upstream;
          dk[c][i] += ds[i] * q_value;
        }
      }
    }
  }
  if (!at.live) {
    return;
  }
  for (var row = tile.z + at.own; row < tile.w; row += OWN) {
    let i = (row - tile.z) / OWN;
    for (var c = 0u; c < SHARE; c++) {
      let column = at.met + c * MET;
      if (column < QUADS) {
        d_qkv[k_at(row, at.head) + column] = pack_quad(pick(dk[c], i));
        d_qkv[v_at(row, at.head) + column] = pack_quad(pick(dv[c], i));
      }
    }
  }
}
