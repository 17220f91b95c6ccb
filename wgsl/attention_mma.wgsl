// out[r] = sum over rows j of r's sequence of softmax_j(SCALE q[r] . k[j]) v[j], head by head: attention.wgsl on subgroup matrices,
// tensors in halves. Online softmax relative to a shift: the largest score of a row's first tile, moved, and the sums with it,
// only when a later one is more than 8 powers of two larger. Saves lse [HEADS, T].
// Layout and division of work: lib/attention_mma.wgsl, own rows = queries, met rows = keys; an invocation has one own row.
// FLOPs: 4 HEAD_DIM HEADS sum(length^2). Bytes: T (8 HEADS HEAD_DIM + 4 HEADS).
@group(0) @binding(0) var<storage, read> qkv: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
// include lib/attention_mma.wgsl
const KEYS: u32 = 0u;
const VALUES: u32 = OPERANDS - 1u;
const MARGIN: f32 = 8.0;

// Whether the shift of some row moved in this tile.
var<workgroup> moved: atomic<u32>;

// The own row of an invocation on the stage: its block, and where it begins there.
struct Row {
  live: bool,
  subgroup: u32,
  block: u32,
  at: u32,
}

fn row_of(work: Work) -> Row {
  let row = min(work.lane, ROWS - 1u);
  return Row(work.live && work.lane < ROWS, work.subgroup, row / MMA_M, row % MMA_M * STRIDE);
}

fn floats_at(row: Row, i: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(stage[row.subgroup][row.block][row.at + i]);
}

fn scale_row(row: Row, factor: f32) {
  for (var i = 0u; i < MMA_N / 4u; i++) {
    stage[row.subgroup][row.block][row.at + i] = bitcast<vec4<u32>>(factor * floats_at(row, i));
  }
  workgroupBarrier();
}

// Multiplies each row of the sums by its factor. The weights on the stage survive.
fn rescale(sums: ptr<function, Accumulators>, factor: f32, row: Row, work: Work) {
  var weights = array<vec4<u32>, MET / 8u>();
  for (var i = 0u; i < MET / 8u; i++) {
    weights[i] = stage[row.subgroup][row.block][row.at + WEIGHTS + i];
  }
  stage_results((*sums)[T0], (*sums)[NEXT + T0], work);
  scale_row(row, factor);
  (*sums)[T0] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
  (*sums)[NEXT + T0] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  if (TILES > 1u) {
    stage_results((*sums)[T1], (*sums)[NEXT + T1], work);
    scale_row(row, factor);
    (*sums)[T1] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T1] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 2u) {
    stage_results((*sums)[T2], (*sums)[NEXT + T2], work);
    scale_row(row, factor);
    (*sums)[T2] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T2] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 3u) {
    stage_results((*sums)[T3], (*sums)[NEXT + T3], work);
    scale_row(row, factor);
    (*sums)[T3] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T3] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 4u) {
    stage_results((*sums)[T4], (*sums)[NEXT + T4], work);
    scale_row(row, factor);
    (*sums)[T4] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T4] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 5u) {
    stage_results((*sums)[T5], (*sums)[NEXT + T5], work);
    scale_row(row, factor);
    (*sums)[T5] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T5] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 6u) {
    stage_results((*sums)[T6], (*sums)[NEXT + T6], work);
    scale_row(row, factor);
    (*sums)[T6] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T6] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  if (TILES > 7u) {
    stage_results((*sums)[T7], (*sums)[NEXT + T7], work);
    scale_row(row, factor);
    (*sums)[T7] = mma_load(&stage[work.subgroup][0], 0u, STRIDE);
    (*sums)[NEXT + T7] = mma_load(&stage[work.subgroup][LAST], 0u, STRIDE);
  }
  workgroupBarrier();
  for (var i = 0u; i < MET / 8u; i++) {
    stage[row.subgroup][row.block][row.at + WEIGHTS + i] = weights[i];
  }
  workgroupBarrier();
}

// Writes columns of the own rows, times their factor.
fn write_columns(a: MmaResult, b: MmaResult, t: u32, factor: f32, row: Row, work: Work) {
  stage_results(a, b, work);
  if (row.live && work.first + work.lane < work.last) {
    let to = (work.first + work.lane) * WIDTH + work.head * OCTETS + t * STEP;
    for (var i = 0u; i < MMA_N / 8u; i++) {
      out[to + i] = halves_of(factor * floats_at(row, 2u * i), factor * floats_at(row, 2u * i + 1u));
    }
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
  let row = row_of(work);
  let k = k_of(work.head);
  let v = v_of(work.head);
  var own = load_own(&qkv, q_of(work.head), work);
  put(KEYS, fetch(&qkv, k, tile.x, tile.y, work.thread), work.thread);
  var keys = fetch(&qkv, k, tile.x + MET, tile.y, work.thread);
  var values = fetch(&qkv, v, tile.x, tile.y, work.thread);
  var sums = Accumulators();
  var shift = LOWEST;
  var total = 0.0;
  workgroupBarrier();

  for (var first = tile.x; first < tile.y; first += MET) {
    if (work.live) {
      stage_products(&own, KEYS, 0u, work);
    }
    workgroupBarrier();
    put(VALUES, values, work.thread);
    values = fetch(&qkv, v, first + MET, tile.y, work.thread);
    if (APART) {
      put(KEYS, keys, work.thread);
      keys = fetch(&qkv, k, first + 2u * MET, tile.y, work.thread);
    }
    var factor = 1.0;
    if (row.live) {
      var scores = array<vec4<f32>, SLICE>();
      var peaks = vec4<f32>(LOWEST);
      for (var i = 0u; i < SLICE; i++) {
        let inside = vec4<u32>(first + 4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tile.y);
        scores[i] = select(vec4<f32>(LOWEST), (SCALE * LOG2_E) * floats_at(row, i), inside);
        peaks = max(peaks, scores[i]);
      }
      let peak = max(max(peaks.x, peaks.y), max(peaks.z, peaks.w));
      if (first == tile.x) {
        shift = peak;
      } else if (peak > shift + MARGIN) {
        factor = exp2(shift - peak);
        shift = peak;
      }
      var parts = vec4<f32>(0.0);
      for (var i = 0u; i < MET / 8u; i++) {
        let a = exp2(scores[2u * i] - shift);
        let b = exp2(scores[2u * i + 1u] - shift);
        parts += a + b;
        stage[row.subgroup][row.block][row.at + WEIGHTS + i] = halves_of(a, b);
      }
      total = factor * total + parts.x + parts.y + parts.z + parts.w;
    }
    if (factor != 1.0) {
      atomicStore(&moved, 1u);
    }
    if (workgroupUniformLoad(&moved) != 0u) {
      rescale(&sums, factor, row, work);
      if (work.thread == 0u) {
        atomicStore(&moved, 0u);
      }
    }
    if (work.live) {
      add_weighted(&sums, VALUES, 0u, work);
    }
    if (!APART) {
      workgroupBarrier();
      put(KEYS, keys, work.thread);
      keys = fetch(&qkv, k, first + 2u * MET, tile.y, work.thread);
      workgroupBarrier();
    }
  }
  write_columns(sums[T0], sums[NEXT + T0], T0, 1.0 / total, row, work);
  if (TILES > 1u) {
    write_columns(sums[T1], sums[NEXT + T1], T1, 1.0 / total, row, work);
  }
  if (TILES > 2u) {
    write_columns(sums[T2], sums[NEXT + T2], T2, 1.0 / total, row, work);
  }
  if (TILES > 3u) {
    write_columns(sums[T3], sums[NEXT + T3], T3, 1.0 / total, row, work);
  }
  if (TILES > 4u) {
    write_columns(sums[T4], sums[NEXT + T4], T4, 1.0 / total, row, work);
  }
  if (TILES > 5u) {
    write_columns(sums[T5], sums[NEXT + T5], T5, 1.0 / total, row, work);
  }
  if (TILES > 6u) {
    write_columns(sums[T6], sums[NEXT + T6], T6, 1.0 / total, row, work);
  }
  if (TILES > 7u) {
    write_columns(sums[T7], sums[NEXT + T7], T7, 1.0 / total, row, work);
  }
  if (row.live && work.first + work.lane < work.last) {
    lse[work.head * (arrayLength(&lse) / HEADS) + work.first + work.lane] = (shift + log2(total)) / LOG2_E;
  }
}
