// out[M, N] = op(a) op(b), then the epilogue, by subgroup matrices. LAYOUT: NN a[M,K] b[K,N]; NT a[M,K] b[N,K]; TN a[K,M]
// b[K,N]. a and b are halves, eight to a vector: dimensions that lie along rows are multiples of 8, N at least of 4.
// A workgroup of 2 x 2 subgroups owns 8 MMA_M x 2 COLUMN_TILES MMA_N of the result, a subgroup 4 x COLUMN_TILES matrices, and
// takes 2 MMA_K of K at a time through workgroup memory, the next such slice already on its way in registers.
// Workgroup z owns part z of K (split-K): it writes its own M x N partial, which sum_partials adds in order.
// FLOPs: 2 M N K. Bytes: those of a, b and out.
// include lib/mma.wgsl
// include lib/gemm_epilogue.wgsl
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;

const NN = 0;
const NT = 1;
const TN = 2;
const THREADS: u32 = 4u * SUBGROUP;
const DEPTH: u32 = 2u * MMA_K;
const SUB_M: u32 = 4u * MMA_M;
const SUB_N: u32 = COLUMN_TILES * MMA_N;
// Whether neighbours in memory are neighbours along k.
const A_ALONG_K = LAYOUT != TN;
const B_ALONG_K = LAYOUT == NT;
// Vectors of one block of an operand's slice, and in how many turns the workgroup brings them.
const A_COUNT: u32 = A_ROWS * A_WIDTH;
const B_COUNT: u32 = B_ROWS * B_WIDTH;
const A_TURNS: u32 = (A_COUNT + THREADS - 1u) / THREADS;
const B_TURNS: u32 = (B_COUNT + THREADS - 1u) / THREADS;
// From one row of a block to the next. The vector to spare makes it odd, so that rows below each other are in other banks:
// vector v of a block, counted row by row, is at v + v / width.
const A_STRIDE: u32 = A_WIDTH + 1u;
const B_STRIDE: u32 = B_WIDTH + 1u;
const STAGE_STRIDE: u32 = SUB_N / 4u + 1u;

// Two blocks of a (the subgroups above and below), two of b (left and right); at the end each subgroup's stage. Matrices have
// constant offsets in a block, so that no bounds need testing.
var<workgroup> blocks: array<MmaBlock, 4>;

// Where in memory the slice at k has vector v of a block. `edge` is the block's first row or column across k, of `extent`;
// past the last, the last stands in: what comes of it is not stored.
fn source(v: u32, width: u32, along_k: bool, edge: u32, extent: u32, k: u32) -> u32 {
  if (along_k) {
    return min(edge + v / width, extent - 1u) * (sizes.K / 8u) + k / 8u + v % width;
  }
  return (k + v / width) * (extent / 8u) + min(edge / 8u + v % width, extent / 8u - 1u);
}

// The first k of vector v, in its slice.
fn depth_of(v: u32, width: u32, along_k: bool) -> u32 {
  return select(v / width, v % width * 8u, along_k);
}

// Vectors from a k to `depth` further on.
fn vectors_ahead(depth: u32, along_k: bool, extent: u32) -> u32 {
  return select(depth * (extent / 8u), depth / 8u, along_k);
}

// The i-th of a subgroup's 4 left matrices, for the first or second MMA_K of the slice.
fn left(block: ptr<workgroup, MmaBlock>, i: u32, half: u32) -> MmaLeft {
  if (A_ALONG_K) {
    return mma_left_by_rows(block, i * MMA_M * A_STRIDE + half * (MMA_K / 8u), A_STRIDE);
  }
  return mma_left_by_columns(block, half * MMA_K * A_STRIDE + i * (MMA_M / 8u), A_STRIDE);
}

fn right(block: ptr<workgroup, MmaBlock>, j: u32, half: u32) -> MmaRight {
  if (B_ALONG_K) {
    return mma_right_by_columns(block, j * MMA_N * B_STRIDE + half * (MMA_K / 8u), B_STRIDE);
  }
  return mma_right_by_rows(block, half * MMA_K * B_STRIDE + j * (MMA_N / 8u), B_STRIDE);
}

// Stores one row of a subgroup's matrices, whose first element is (m, n) of the result: through the subgroup's block, so that
// lanes get neighbouring columns. The whole workgroup calls this (it holds barriers).
fn finish_matrices(id: vec3<u32>, part: u32, m: u32, n: u32, c0: MmaResult, c1: MmaResult, c2: MmaResult, c3: MmaResult) {
  let stage = &blocks[id.y];
  mma_store(stage, 0u, c0, STAGE_STRIDE);
  mma_store(stage, MMA_N / 4u, c1, STAGE_STRIDE);
  mma_store(stage, MMA_N / 2u, c2, STAGE_STRIDE);
  if (COLUMN_TILES == 4) {
    mma_store(stage, 3u * MMA_N / 4u, c3, STAGE_STRIDE);
  }
  workgroupBarrier();
  for (var i = id.x; i < MMA_M * SUB_N / 4u; i += SUBGROUP) {
    let row = i / (SUB_N / 4u);
    let column = i % (SUB_N / 4u);
    if (m + row < sizes.M && n + 4u * column < sizes.N) {
      finish_quad(part, m + row, n + 4u * column, bitcast<vec4<f32>>(blocks[id.y][row * STAGE_STRIDE + column]));
    }
  }
  workgroupBarrier();
}

// The second dimension counts the subgroups: compilers then know how many there are.
@compute @workgroup_size(SUBGROUP, 4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) id: vec3<u32>) {
  let index = id.y * SUBGROUP + id.x;
  let m0 = group.y * 2u * SUB_M;
  let n0 = group.x * 2u * SUB_N;
  let first = min(group.z * sizes.k_per_part, sizes.K);
  let end = min(first + sizes.k_per_part, sizes.K);
  // The first slice is the one that may be short: it is filled up with zeros, and the loop needs to test nothing.
  let rest = (end - first) % DEPTH;
  let short = select(rest, min(end - first, DEPTH), rest == 0u);
  var a_at: array<u32, 2u * A_TURNS>;
  var b_at: array<u32, 2u * B_TURNS>;
  var next_a: array<vec4<u32>, 2u * A_TURNS>;
  var next_b: array<vec4<u32>, 2u * B_TURNS>;
  for (var i = 0u; i < 2u * A_TURNS; i++) {
    let v = i % A_TURNS * THREADS + index;
    let inside = v < A_COUNT && depth_of(v, A_WIDTH, A_ALONG_K) < short;
    let origin = source(v, A_WIDTH, A_ALONG_K, m0 + i / A_TURNS * SUB_M, sizes.M, first);
    next_a[i] = select(vec4<u32>(), a[select(0u, origin, inside)], inside);
    a_at[i] = origin + vectors_ahead(short, A_ALONG_K, sizes.M);
  }
  for (var i = 0u; i < 2u * B_TURNS; i++) {
    let v = i % B_TURNS * THREADS + index;
    let inside = v < B_COUNT && depth_of(v, B_WIDTH, B_ALONG_K) < short;
    let origin = source(v, B_WIDTH, B_ALONG_K, n0 + i / B_TURNS * SUB_N, sizes.N, first);
    next_b[i] = select(vec4<u32>(), b[select(0u, origin, inside)], inside);
    b_at[i] = origin + vectors_ahead(short, B_ALONG_K, sizes.N);
  }
  let a_step = vectors_ahead(DEPTH, A_ALONG_K, sizes.M);
  let b_step = vectors_ahead(DEPTH, B_ALONG_K, sizes.N);
  let block_a = &blocks[id.y / 2u];
  let block_b = &blocks[2u + id.y % 2u];
  // Row by row. Everything below is written out, with literal indices: in a loop, compilers put these matrices into memory.
  var sums: array<MmaResult, 16>;
  for (var k = first + short; ; k += DEPTH) {
    for (var i = 0u; i < 2u * A_TURNS; i++) {
      let v = i % A_TURNS * THREADS + index;
      if (A_COUNT % THREADS == 0u || v < A_COUNT) {
        blocks[i / A_TURNS][v + v / A_WIDTH] = next_a[i];
      }
    }
    for (var i = 0u; i < 2u * B_TURNS; i++) {
      let v = i % B_TURNS * THREADS + index;
      if (B_COUNT % THREADS == 0u || v < B_COUNT) {
        blocks[2u + i / B_TURNS][v + v / B_WIDTH] = next_b[i];
      }
    }
    workgroupBarrier();
    let more = k < end;
    if (more) {
      for (var i = 0u; i < 2u * A_TURNS; i++) {
        if (A_COUNT % THREADS == 0u || i % A_TURNS * THREADS + index < A_COUNT) {
          next_a[i] = a[a_at[i]];
        }
        a_at[i] += a_step;
      }
      for (var i = 0u; i < 2u * B_TURNS; i++) {
        if (B_COUNT % THREADS == 0u || i % B_TURNS * THREADS + index < B_COUNT) {
          next_b[i] = b[b_at[i]];
        }
        b_at[i] += b_step;
      }
    }
    let left00 = left(block_a, 0u, 0u);
    let left01 = left(block_a, 1u, 0u);
    let left02 = left(block_a, 2u, 0u);
    let left03 = left(block_a, 3u, 0u);
    let right00 = right(block_b, 0u, 0u);
    sums[0] = mma_add_product(sums[0], left00, right00);
    sums[4] = mma_add_product(sums[4], left01, right00);
    sums[8] = mma_add_product(sums[8], left02, right00);
    sums[12] = mma_add_product(sums[12], left03, right00);
    let right01 = right(block_b, 1u, 0u);
    sums[1] = mma_add_product(sums[1], left00, right01);
    sums[5] = mma_add_product(sums[5], left01, right01);
    sums[9] = mma_add_product(sums[9], left02, right01);
    sums[13] = mma_add_product(sums[13], left03, right01);
    let right02 = right(block_b, 2u, 0u);
    sums[2] = mma_add_product(sums[2], left00, right02);
    sums[6] = mma_add_product(sums[6], left01, right02);
    sums[10] = mma_add_product(sums[10], left02, right02);
    sums[14] = mma_add_product(sums[14], left03, right02);
    if (COLUMN_TILES == 4) {
      let right03 = right(block_b, 3u, 0u);
      sums[3] = mma_add_product(sums[3], left00, right03);
      sums[7] = mma_add_product(sums[7], left01, right03);
      sums[11] = mma_add_product(sums[11], left02, right03);
      sums[15] = mma_add_product(sums[15], left03, right03);
    }
    let left10 = left(block_a, 0u, 1u);
    let left11 = left(block_a, 1u, 1u);
    let left12 = left(block_a, 2u, 1u);
    let left13 = left(block_a, 3u, 1u);
    let right10 = right(block_b, 0u, 1u);
    sums[0] = mma_add_product(sums[0], left10, right10);
    sums[4] = mma_add_product(sums[4], left11, right10);
    sums[8] = mma_add_product(sums[8], left12, right10);
    sums[12] = mma_add_product(sums[12], left13, right10);
    let right11 = right(block_b, 1u, 1u);
    sums[1] = mma_add_product(sums[1], left10, right11);
    sums[5] = mma_add_product(sums[5], left11, right11);
    sums[9] = mma_add_product(sums[9], left12, right11);
    sums[13] = mma_add_product(sums[13], left13, right11);
    let right12 = right(block_b, 2u, 1u);
    sums[2] = mma_add_product(sums[2], left10, right12);
    sums[6] = mma_add_product(sums[6], left11, right12);
    sums[10] = mma_add_product(sums[10], left12, right12);
    sums[14] = mma_add_product(sums[14], left13, right12);
    if (COLUMN_TILES == 4) {
      let right13 = right(block_b, 3u, 1u);
      sums[3] = mma_add_product(sums[3], left10, right13);
      sums[7] = mma_add_product(sums[7], left11, right13);
      sums[11] = mma_add_product(sums[11], left12, right13);
      sums[15] = mma_add_product(sums[15], left13, right13);
    }
    workgroupBarrier();
    if (!more) {
      break;
    }
  }
  let m = m0 + id.y / 2u * SUB_M;
  let n = n0 + id.y % 2u * SUB_N;
  finish_matrices(id, group.z, m, n, sums[0], sums[1], sums[2], sums[3]);
  finish_matrices(id, group.z, m + MMA_M, n, sums[4], sums[5], sums[6], sums[7]);
  finish_matrices(id, group.z, m + 2u * MMA_M, n, sums[8], sums[9], sums[10], sums[11]);
  finish_matrices(id, group.z, m + 3u * MMA_M, n, sums[12], sums[13], sums[14], sums[15]);
}
