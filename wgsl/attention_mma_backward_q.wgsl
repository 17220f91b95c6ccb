// The q third of d_qkv [T, 3, HEADS, HEAD_DIM] in halves: dq[r] = SCALE sum over rows j of ds[r, j] k[j], with
// p = exp(SCALE q[r] . k[j] - lse) and ds = p (d_out[r] . v[j] - delta): attention_backward_q.wgsl on subgroup matrices.
// Layout and division of work: lib/attention_mma.wgsl, own rows = queries, met rows = keys.
// FLOPs: 6 HEAD_DIM HEADS sum(length^2). Bytes: T (10 HEADS HEAD_DIM + 8 HEADS).
// include lib/attention_mma_backward.wgsl
const KEYS: u32 = 0u;
const VALUES: u32 = 1u;

// Two columns: the matrices t and t + 1 along the head.
fn write_columns(a: MmaResult, b: MmaResult, t: u32, work: Work) {
  stage_results(a, b, work);
  write_own(q_of(work.head), 0u, t, SCALE, work);
  if (t + 1u < TILES) {
    write_own(q_of(work.head), 1u, t + 1u, SCALE, work);
  }
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
  let k = k_of(work.head);
  let v = v_of(work.head);
  var own_queries = load_own(&qkv, q_of(work.head), work);
  var own_upstream = load_own(&d_out, out_of(work.head), work);
  let statistics = statistics_of(min(work.first + part.row, tile.w - 1u), tile.y, work.head);
  var dq = Accumulators();
  var keys = fetch(&qkv, k, tile.x, tile.y, work.thread);
  var values = fetch(&qkv, v, tile.x, tile.y, work.thread);

  for (var first = tile.x; first < tile.y; first += MET) {
    workgroupBarrier();
    put(KEYS, keys, work.thread);
    put(VALUES, values, work.thread);
    workgroupBarrier();
    keys = fetch(&qkv, k, first + MET, tile.y, work.thread);
    values = fetch(&qkv, v, first + MET, tile.y, work.thread);
    if (work.live) {
      stage_products(&own_queries, KEYS, SCORES, work);
      stage_products(&own_upstream, VALUES, SLOPES, work);
    }
    workgroupBarrier();
    var slopes = array<vec4<u32>, PART / 8u>();
    for (var i = 0u; i < PART / 8u; i++) {
      var ds = array<vec4<f32>, 2>();
      for (var half = 0u; half < 2u; half++) {
        let column = first + part.column + 8u * i + 4u * half;
        let inside = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tile.y);
        let p = exp2((SCALE * LOG2_E) * product_at(part, SCORES, 2u * i + half) - statistics.x);
        ds[half] = select(vec4<f32>(0.0), p * (product_at(part, SLOPES, 2u * i + half) - statistics.y), inside);
      }
      slopes[i] = halves_of(ds[0], ds[1]);
    }
    if (!APART) {
      workgroupBarrier();
    }
    if (part.live) {
      put_weights(part, SCORES, slopes);
    }
    workgroupBarrier();
    if (work.live) {
      add_weighted(&dq, KEYS, SCORES, work);
    }
  }
  write_columns(dq[T0], dq[T1], T0, work);
  if (TILES > 2u) {
    write_columns(dq[T2], dq[T3], T2, work);
  }
  if (TILES > 4u) {
    write_columns(dq[T4], dq[T5], T4, work);
  }
  if (TILES > 6u) {
    write_columns(dq[T6], dq[T7], T6, work);
  }
}
