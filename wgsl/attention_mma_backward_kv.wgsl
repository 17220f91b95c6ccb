// The k and v thirds of d_qkv [T, 3, HEADS, HEAD_DIM] in halves: dv[j] = sum over rows r of p[r, j] d_out[r], dk[j] = SCALE sum of
// ds[r, j] q[r], with p = exp(SCALE q[r] . k[j] - lse) and ds = p (d_out[r] . v[j] - delta): attention_backward_kv.wgsl on subgroup
// matrices. Layout and division of work: lib/attention_mma.wgsl, own rows = keys, met rows = queries.
// FLOPs: 8 HEAD_DIM HEADS sum(length^2). Bytes: T (12 HEADS HEAD_DIM + 8 HEADS).
// include lib/attention_mma_backward.wgsl
const QUERIES: u32 = 0u;
const UPSTREAM: u32 = 1u;

var<workgroup> met_statistics: array<vec2<f32>, MET>;

fn write_columns(dk: MmaResult, dv: MmaResult, t: u32, work: Work) {
  stage_results(dk, dv, work);
  write_own(k_of(work.head), 0u, t, SCALE, work);
  write_own(v_of(work.head), 1u, t, 1.0, work);
}

@compute @workgroup_size(SUBGROUP, SUBGROUPS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_id) id: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  if (index >= arrayLength(&tiles) * HEADS) {
    return;
  }
  let tile = tiles[index / HEADS];
  let work = work_of(tile, index % HEADS, id);
  let part = part_of(work);
  let q = q_of(work.head);
  let g = out_of(work.head);
  var own_keys = load_own(&qkv, k_of(work.head), work);
  var own_values = load_own(&qkv, v_of(work.head), work);
  var dk = Accumulators();
  var dv = Accumulators();
  var queries = fetch(&qkv, q, tile.x, tile.y, work.thread);
  var upstream = fetch(&d_out, g, tile.x, tile.y, work.thread);
  var statistics = statistics_of(tile.x + work.thread, tile.y, work.head);

  for (var first = tile.x; first < tile.y; first += MET) {
    workgroupBarrier();
    put(QUERIES, queries, work.thread);
    put(UPSTREAM, upstream, work.thread);
    if (work.thread < MET) {
      met_statistics[work.thread] = statistics;
    }
    workgroupBarrier();
    queries = fetch(&qkv, q, first + MET, tile.y, work.thread);
    upstream = fetch(&d_out, g, first + MET, tile.y, work.thread);
    statistics = statistics_of(first + MET + work.thread, tile.y, work.head);
    if (work.live) {
      stage_products(&own_keys, QUERIES, SCORES, work);
      stage_products(&own_values, UPSTREAM, SLOPES, work);
    }
    workgroupBarrier();
    var weights = array<vec4<u32>, PART / 8u>();
    var slopes = array<vec4<u32>, PART / 8u>();
    for (var i = 0u; i < PART / 8u; i++) {
      var p = array<vec4<f32>, 2>();
      var ds = array<vec4<f32>, 2>();
      for (var half = 0u; half < 2u; half++) {
        let at = part.column + 8u * i + 4u * half;
        let s = array<vec2<f32>, 4>(met_statistics[at], met_statistics[at + 1u], met_statistics[at + 2u], met_statistics[at + 3u]);
        let log_sums = vec4<f32>(s[0].x, s[1].x, s[2].x, s[3].x);
        let deltas = vec4<f32>(s[0].y, s[1].y, s[2].y, s[3].y);
        p[half] = exp2((SCALE * LOG2_E) * product_at(part, SCORES, 2u * i + half) - log_sums);
        ds[half] = p[half] * (product_at(part, SLOPES, 2u * i + half) - deltas);
      }
      weights[i] = halves_of(p[0], p[1]);
      slopes[i] = halves_of(ds[0], ds[1]);
    }
    if (!APART) {
      workgroupBarrier();
    }
    if (part.live) {
      put_weights(part, SCORES, weights);
      put_weights(part, SLOPES, slopes);
    }
    workgroupBarrier();
    if (work.live) {
      add_weighted(&dv, UPSTREAM, SCORES, work);
      add_weighted(&dk, QUERIES, SLOPES, work);
    }
  }
  write_columns(dk[T0], dv[T0], T0, work);
  if (TILES > 1u) {
    write_columns(dk[T1], dv[T1], T1, work);
  }
  if (TILES > 2u) {
    write_columns(dk[T2], dv[T2], T2, work);
  }
  if (TILES > 3u) {
    write_columns(dk[T3], dv[T3], T3, work);
  }
  if (TILES > 4u) {
    write_columns(dk[T4], dv[T4], T4, work);
  }
  if (TILES > 5u) {
    write_columns(dk[T5], dv[T5], T5, work);
  }
  if (TILES > 6u) {
    write_columns(dk[T6], dv[T6], T6, work);
  }
  if (TILES > 7u) {
    write_columns(dk[T7], dv[T7], T7, work);
  }
}
