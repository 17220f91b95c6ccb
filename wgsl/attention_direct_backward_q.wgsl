enable subgroups;
// The q third of d_qkv [T, 3, HEADS, HEAD_DIM]: dq[r] = sum over rows j of ds[r, j] k[j], with p = exp(SCALE q[r] . k[j] - lse)
// and ds = SCALE p (d_out[r] . v[j] - delta): the same as attention_backward_q.wgsl, for adapters that run on a CPU.
// Own rows = queries, met rows = keys: see lib/attention_direct.wgsl.
// FLOPs: 6 HEAD_DIM HEADS sum(length^2). Bytes: 5 T HEADS HEAD_DIM times an element's, 8 T HEADS.
@group(0) @binding(0) var<storage, read> qkv: array<Quad>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> d_out: array<Quad>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<Quad>;
// include lib/attention_direct_backward.wgsl

// What the lanes loaded for the owned rows, one value each.
fn gather_value(first: f32, second: f32) -> OwnedValue {
  return OwnedValue(
    vec4<f32>(subgroupBroadcast(first, 0u), subgroupBroadcast(first, 1u),
              subgroupBroadcast(first, 2u), subgroupBroadcast(first, 3u)),
    vec4<f32>(subgroupBroadcast(second, FIFTH), subgroupBroadcast(second, FIFTH + 1u),
              subgroupBroadcast(second, FIFTH + 2u), subgroupBroadcast(second, FIFTH + 3u)));
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
  let q = vec2<u32>(q_at(own.x, head), q_at(own.y, head));
  let upstream = vec2<u32>(out_at(own.x, head), out_at(own.y, head));
  let statistics = head * (arrayLength(&lse) / HEADS) + own;
  // Eight lanes hold eight rows: only four need a second one.
  let second = select(statistics.x, statistics.y, LANES == 4);
  let log_sum = gather_value(lse[statistics.x], lse[second]);
  let mean_slope = gather_value(delta[statistics.x], delta[second]);
  let quads = quads_of_head();
  var sum = Columns();

  for (var first = tile.x; first < tile.y; first += 4u * LANES) {
    let met = rows_met(first, lane);
    let last = vec4<u32>(tile.y - 1u);
    let clamped = min(met, last);
    let k = vec4<u32>(k_at(clamped.x, head), k_at(clamped.y, head), k_at(clamped.z, head), k_at(clamped.w, head));
    var products = Owned();
    var slopes = Owned();
    for (var d = 0u; d < quads; d++) {
      products = add_product(products, transpose(qkv_met(k + d)), qkv_owned(q + d));
      slopes = add_product(slopes, transpose(qkv_met(k + WIDTH + d)), upstream_owned(upstream + d));
    }
    let weights = weights_of(scores_of(products, bias_of(met, tile.y)), log_sum);
    slopes = multiply(weights, subtract(slopes, mean_slope));
    let lanes = lanes_meeting(tile, first);
    for (var other = 0u; other < lanes; other++) {
      let rows = min(rows_met(first, other), last);
      let key = vec4<u32>(k_at(rows.x, head), k_at(rows.y, head), k_at(rows.z, head), k_at(rows.w, head));
      sum = add_qkv_rows(sum, key, lane, of_lane(slopes, other));
    }
  }

  let scale = vec4<f32>(SCALE);
  sum = scale_columns(sum, OwnedValue(scale, scale));
  for (var row = tile.z; row < tile.w; row++) {
    store_row(sum, row - tile.z, q_at(row, head), lane);
  }
}
