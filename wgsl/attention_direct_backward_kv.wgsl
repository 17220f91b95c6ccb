enable subgroups;
// The k and v thirds of d_qkv [T, 3, HEADS, HEAD_DIM]: dv[j] = sum over rows r of p[r, j] d_out[r], dk[j] = sum of ds[r, j] q[r],
// with p = exp(SCALE q[r] . k[j] - lse) and ds = SCALE p (d_out[r] . v[j] - delta): the same as attention_backward_kv.wgsl, for
// adapters that run on a CPU. Own rows = keys, met rows = queries: see lib/attention_direct.wgsl.
// FLOPs: 8 HEAD_DIM HEADS sum(length^2). Bytes: 6 T HEADS HEAD_DIM times an element's, 8 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> d_out: array<Quad>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<Quad>;
// include lib/attention_direct_backward.wgsl

// Adds to the lane's columns what four met rows of d_out contribute: those whose weights another lane has.
fn add_upstream_rows(sum: Columns, at: vec4<u32>, lane: u32, weights: Owned) -> Columns {
  var result = sum;
  result.c0 = add_product(sum.c0, upstream_met(at + column(lane, 0u)), weights);
  if (COLUMNS > 1) {
    result.c1 = add_product(sum.c1, upstream_met(at + column(lane, 1u)), weights);
  }
  if (COLUMNS > 2) {
    result.c2 = add_product(sum.c2, upstream_met(at + column(lane, 2u)), weights);
  }
  if (COLUMNS > 3) {
    result.c3 = add_product(sum.c3, upstream_met(at + column(lane, 3u)), weights);
  }
  return result;
}

// a minus b of the met rows, in every owned row.
fn subtract_met(a: Owned, b: vec4<f32>) -> Owned {
  let rows = mat4x4<f32>(b, b, b, b);
  return Owned(a.low - rows, a.high - rows);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= arrayLength(&tiles) * HEADS) {
    return;
  }
  let tile = tiles[index / HEADS];
  let head = index % HEADS;
  let own = rows_to_load(tile, lane);
  let k = vec2<u32>(k_at(own.x, head), k_at(own.y, head));
  let statistics_of_head = head * (arrayLength(&lse) / HEADS);
  let quads = quads_of_head();
  var dk = Columns();
  var dv = Columns();

  for (var first = tile.x; first < tile.y; first += 4u * LANES) {
    let met = rows_met(first, lane);
    let last = vec4<u32>(tile.y - 1u);
    let clamped = min(met, last);
    let q = vec4<u32>(q_at(clamped.x, head), q_at(clamped.y, head), q_at(clamped.z, head), q_at(clamped.w, head));
    let upstream = vec4<u32>(out_at(clamped.x, head), out_at(clamped.y, head), out_at(clamped.z, head), out_at(clamped.w, head));
    var products = Owned();
    var slopes = Owned();
    for (var d = 0u; d < quads; d++) {
      products = add_product(products, transpose(qkv_met(q + d)), qkv_owned(k + d));
      slopes = add_product(slopes, transpose(upstream_met(upstream + d)), qkv_owned(k + WIDTH + d));
    }
    let at = statistics_of_head + clamped;
    let log_sum = vec4<f32>(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
    let mean_slope = vec4<f32>(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
    let weights = weights_of(scores_of(products, bias_of(met, tile.y) - log_sum), OwnedValue());
    slopes = multiply(weights, subtract_met(slopes, mean_slope));
    let lanes = lanes_meeting(tile, first);
    for (var other = 0u; other < lanes; other++) {
      let rows = min(rows_met(first, other), last);
      let g = vec4<u32>(out_at(rows.x, head), out_at(rows.y, head), out_at(rows.z, head), out_at(rows.w, head));
      dv = add_upstream_rows(dv, g, lane, of_lane(weights, other));
    }
    for (var other = 0u; other < lanes; other++) {
      let rows = min(rows_met(first, other), last);
      let query = vec4<u32>(q_at(rows.x, head), q_at(rows.y, head), q_at(rows.z, head), q_at(rows.w, head));
      dk = add_qkv_rows(dk, query, lane, of_lane(slopes, other));
    }
  }

  let scale = vec4<f32>(SCALE);
  dk = scale_columns(dk, OwnedValue(scale, scale));
  for (var row = tile.z; row < tile.w; row++) {
    store_row(dk, row - tile.z, k_at(row, head), lane);
    store_row(dv, row - tile.z, v_at(row, head), lane);
  }
}
