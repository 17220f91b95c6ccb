// include lib/mma.wgsl
// Attention on subgroup matrices over packed qkv [T, 3, HEADS, HEAD_DIM] and out [T, HEADS, HEAD_DIM] in halves, seen as vectors
// of 8 (OCTETS a head). A tile of the table is four numbers: first and end row of a sequence, first and end of the at most
// SUBGROUPS x ROWS rows that a workgroup owns in it, for one head; it walks the sequence in tiles of MET rows. Each subgroup
// owns ROWS rows: it holds them as left matrices, multiplies them with the tile of met rows in workgroup memory, puts the
// products on its stage as floats, where its invocations turn them into weights in halves, and multiplies those with the tile.
// Matrices are opaque, so whatever is done to elements is done on the stage, between barriers: the invocations of a subgroup
// need not run in step. Accumulators and fragments have literal indices: drivers keep no array with others in registers.
const OCTETS: u32 = HEAD_DIM / 8u;
const WIDTH: u32 = HEADS * OCTETS;
const SUBGROUPS: u32 = 4u;
const THREADS: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = BLOCKS * MMA_M;
const TILES: u32 = HEAD_DIM / MMA_K;
const MET_TILES: u32 = MET / MMA_K;
const LOG2_E: f32 = 1.4426950408889634;
const LOWEST: f32 = -3.0e38;

// A row of a block: SLICE vectors, which hold MET floats or 8 SLICE halves of a tile's row; with APART behind them MET halves,
// the weights, which else take the place of their floats; and one to make the count odd, against bank conflicts.
const SLICE: u32 = MET / 4u;
const WEIGHTS: u32 = select(0u, SLICE, APART);
const STRIDE: u32 = SLICE + select(0u, MET / 8u, APART) + 1u;
const MMA_BLOCK: u32 = max(MMA_M, MMA_N) * STRIDE;
// Vectors in a row of one matrix, matrices across a block, blocks across a head.
const STEP: u32 = MMA_K / 8u;
const ACROSS: u32 = SLICE / STEP;
const SLICES: u32 = (OCTETS + SLICE - 1u) / SLICE;
alias Tile = array<array<MmaBlock, SLICES>, MET_TILES>;

// Matrix by matrix along a head, the first and the last block of own rows. At most 8 matrices and 2 blocks; indices of those
// that there are not name the last.
const T0: u32 = 0u;
const T1: u32 = min(1u, TILES - 1u);
const T2: u32 = min(2u, TILES - 1u);
const T3: u32 = min(3u, TILES - 1u);
const T4: u32 = min(4u, TILES - 1u);
const T5: u32 = min(5u, TILES - 1u);
const T6: u32 = min(6u, TILES - 1u);
const T7: u32 = min(7u, TILES - 1u);
const LAST: u32 = BLOCKS - 1u;
const NEXT: u32 = LAST * TILES;
alias Fragments = array<MmaLeft, BLOCKS * TILES>;
alias Accumulators = array<MmaResult, BLOCKS * TILES>;

var<workgroup> stage: array<array<MmaBlock, STAGES>, SUBGROUPS>;
var<workgroup> met: array<Tile, OPERANDS>;

struct Work {
  // First and end row of the sequence, first and end of this subgroup's rows.
  start: u32,
  end: u32,
  first: u32,
  last: u32,
  head: u32,
  // Whether the subgroup owns any row. One that does not still copies tiles and meets the others at barriers.
  live: bool,
  subgroup: u32,
  lane: u32,
  thread: u32,
}

fn work_of(tile: vec4<u32>, head: u32, id: vec3<u32>) -> Work {
  let first = tile.z + id.y * ROWS;
  return Work(tile.x, tile.y, first, min(first + ROWS, tile.w), head, first < tile.w, id.y, id.x, id.y * SUBGROUP + id.x);
}

// Some vectors of each row of a tensor: those of one head.
struct Columns {
  row_width: u32,
  first: u32,
}

fn q_of(head: u32) -> Columns {
  return Columns(3u * WIDTH, head * OCTETS);
}

fn k_of(head: u32) -> Columns {
  return Columns(3u * WIDTH, WIDTH + head * OCTETS);
}

fn v_of(head: u32) -> Columns {
  return Columns(3u * WIDTH, 2u * WIDTH + head * OCTETS);
}

fn out_of(head: u32) -> Columns {
  return Columns(WIDTH, head * OCTETS);
}

// --- Tiles of met rows ---------------------------------------------------------------------------------------------------

const COPIES: u32 = (MET * OCTETS + THREADS - 1u) / THREADS;
alias Ahead = array<vec4<u32>, COPIES>;

// An invocation's share of the rows from `first`; rows past the end of the sequence repeat its last one.
fn fetch(source: ptr<storage, array<vec4<u32>>, read>, columns: Columns, first: u32, end: u32, thread: u32) -> Ahead {
  var ahead = Ahead();
  for (var i = 0u; i < COPIES; i++) {
    let at = thread + i * THREADS;
    ahead[i] = (*source)[min(first + at / OCTETS, end - 1u) * columns.row_width + columns.first + at % OCTETS];
  }
  return ahead;
}

fn put(operand: u32, ahead: Ahead, thread: u32) {
  for (var i = 0u; i < COPIES; i++) {
    let at = thread + i * THREADS;
    let row = at / OCTETS;
    let octet = at % OCTETS;
    if (MET * OCTETS % THREADS == 0u || row < MET) {
      met[operand][row / MMA_N][octet / SLICE][row % MMA_N * STRIDE + octet % SLICE] = ahead[i];
    }
  }
}

// --- Own rows ------------------------------------------------------------------------------------------------------------

// Copies one block's width of the own rows to the stage. Rows past the end of the sequence repeat the last one owned.
fn stage_own(source: ptr<storage, array<vec4<u32>>, read>, columns: Columns, work: Work, slice: u32) {
  workgroupBarrier();
  if (work.live) {
    for (var at = work.lane; at < ROWS * SLICE; at += SUBGROUP) {
      let row = at / SLICE;
      let octet = slice * SLICE + at % SLICE;
      if (OCTETS % SLICE == 0u || octet < OCTETS) {
        stage[work.subgroup][row / MMA_M][row % MMA_M * STRIDE + at % SLICE] =
          (*source)[min(work.first + row, work.last - 1u) * columns.row_width + columns.first + octet];
      }
    }
  }
  workgroupBarrier();
}

// A left matrix of rows on the stage: the block of own rows, or their weights, from vector `offset` of each row on.
fn left_of(work: Work, block: u32, offset: u32) -> MmaLeft {
  return mma_left_by_rows(&stage[work.subgroup][block], offset, STRIDE);
}

// The own rows as left matrices: block by block, along the head in each.
fn load_own(source: ptr<storage, array<vec4<u32>>, read>, columns: Columns, work: Work) -> Fragments {
  var own: Fragments;
  stage_own(source, columns, work, 0u);
  own[T0] = left_of(work, 0u, T0 % ACROSS * STEP);
  own[NEXT + T0] = left_of(work, LAST, T0 % ACROSS * STEP);
  if (TILES > 1u) {
    if (T1 % ACROSS == 0u) {
      stage_own(source, columns, work, T1 / ACROSS);
    }
    own[T1] = left_of(work, 0u, T1 % ACROSS * STEP);
    own[NEXT + T1] = left_of(work, LAST, T1 % ACROSS * STEP);
  }
  if (TILES > 2u) {
    if (T2 % ACROSS == 0u) {
      stage_own(source, columns, work, T2 / ACROSS);
    }
    own[T2] = left_of(work, 0u, T2 % ACROSS * STEP);
    own[NEXT + T2] = left_of(work, LAST, T2 % ACROSS * STEP);
  }
  if (TILES > 3u) {
    if (T3 % ACROSS == 0u) {
      stage_own(source, columns, work, T3 / ACROSS);
    }
    own[T3] = left_of(work, 0u, T3 % ACROSS * STEP);
    own[NEXT + T3] = left_of(work, LAST, T3 % ACROSS * STEP);
  }
  if (TILES > 4u) {
    if (T4 % ACROSS == 0u) {
      stage_own(source, columns, work, T4 / ACROSS);
    }
    own[T4] = left_of(work, 0u, T4 % ACROSS * STEP);
    own[NEXT + T4] = left_of(work, LAST, T4 % ACROSS * STEP);
  }
  if (TILES > 5u) {
    if (T5 % ACROSS == 0u) {
      stage_own(source, columns, work, T5 / ACROSS);
    }
    own[T5] = left_of(work, 0u, T5 % ACROSS * STEP);
    own[NEXT + T5] = left_of(work, LAST, T5 % ACROSS * STEP);
  }
  if (TILES > 6u) {
    if (T6 % ACROSS == 0u) {
      stage_own(source, columns, work, T6 / ACROSS);
    }
    own[T6] = left_of(work, 0u, T6 % ACROSS * STEP);
    own[NEXT + T6] = left_of(work, LAST, T6 % ACROSS * STEP);
  }
  if (TILES > 7u) {
    if (T7 % ACROSS == 0u) {
      stage_own(source, columns, work, T7 / ACROSS);
    }
    own[T7] = left_of(work, 0u, T7 % ACROSS * STEP);
    own[NEXT + T7] = left_of(work, LAST, T7 % ACROSS * STEP);
  }
  workgroupBarrier();
  return own;
}

// --- Products ------------------------------------------------------------------------------------------------------------

alias Sums = array<MmaResult, BLOCKS>;

// Rows j of a tile as columns of a right matrix (k runs along the head), and as its rows (k runs over met rows).
fn met_by_columns(operand: u32, j: u32, t: u32) -> MmaRight {
  return mma_right_by_columns(&met[operand][j][t / ACROSS], t % ACROSS * STEP, STRIDE);
}

fn met_by_rows(operand: u32, j: u32, t: u32) -> MmaRight {
  return mma_right_by_rows(&met[operand][j][t / ACROSS], t % ACROSS * STEP, STRIDE);
}

fn add_products(sums: ptr<function, Sums>, a: MmaLeft, b: MmaLeft, right: MmaRight) {
  (*sums)[0] = mma_add_product((*sums)[0], a, right);
  if (BLOCKS > 1u) {
    (*sums)[LAST] = mma_add_product((*sums)[LAST], b, right);
  }
}

// Puts own rows times all rows of a tile on the stage, from `block` on: element [own row][met row].
fn stage_products(own: ptr<function, Fragments>, operand: u32, block: u32, work: Work) {
  for (var j = 0u; j < MET_TILES; j++) {
    var sums = Sums();
    add_products(&sums, (*own)[T0], (*own)[NEXT + T0], met_by_columns(operand, j, T0));
    if (TILES > 1u) {
      add_products(&sums, (*own)[T1], (*own)[NEXT + T1], met_by_columns(operand, j, T1));
    }
    if (TILES > 2u) {
      add_products(&sums, (*own)[T2], (*own)[NEXT + T2], met_by_columns(operand, j, T2));
    }
    if (TILES > 3u) {
      add_products(&sums, (*own)[T3], (*own)[NEXT + T3], met_by_columns(operand, j, T3));
    }
    if (TILES > 4u) {
      add_products(&sums, (*own)[T4], (*own)[NEXT + T4], met_by_columns(operand, j, T4));
    }
    if (TILES > 5u) {
      add_products(&sums, (*own)[T5], (*own)[NEXT + T5], met_by_columns(operand, j, T5));
    }
    if (TILES > 6u) {
      add_products(&sums, (*own)[T6], (*own)[NEXT + T6], met_by_columns(operand, j, T6));
    }
    if (TILES > 7u) {
      add_products(&sums, (*own)[T7], (*own)[NEXT + T7], met_by_columns(operand, j, T7));
    }
    mma_store(&stage[work.subgroup][block], j * (MMA_N / 4u), sums[0], STRIDE);
    if (BLOCKS > 1u) {
      mma_store(&stage[work.subgroup][block + LAST], j * (MMA_N / 4u), sums[LAST], STRIDE);
    }
  }
}

// Adds the weights on the stage, from `block` on, times the rows of a tile: a row of sums for each own row.
fn add_weighted(sums: ptr<function, Accumulators>, operand: u32, block: u32, work: Work) {
  for (var j = 0u; j < MET_TILES; j++) {
    let a = left_of(work, block, weights_at(j));
    let b = left_of(work, block + LAST, weights_at(j));
    {
      let right = met_by_rows(operand, j, T0);
      (*sums)[T0] = mma_add_product((*sums)[T0], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T0] = mma_add_product((*sums)[NEXT + T0], b, right);
      }
    }
    if (TILES > 1u) {
      let right = met_by_rows(operand, j, T1);
      (*sums)[T1] = mma_add_product((*sums)[T1], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T1] = mma_add_product((*sums)[NEXT + T1], b, right);
      }
    }
    if (TILES > 2u) {
      let right = met_by_rows(operand, j, T2);
      (*sums)[T2] = mma_add_product((*sums)[T2], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T2] = mma_add_product((*sums)[NEXT + T2], b, right);
      }
    }
    if (TILES > 3u) {
      let right = met_by_rows(operand, j, T3);
      (*sums)[T3] = mma_add_product((*sums)[T3], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T3] = mma_add_product((*sums)[NEXT + T3], b, right);
      }
    }
    if (TILES > 4u) {
      let right = met_by_rows(operand, j, T4);
      (*sums)[T4] = mma_add_product((*sums)[T4], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T4] = mma_add_product((*sums)[NEXT + T4], b, right);
      }
    }
    if (TILES > 5u) {
      let right = met_by_rows(operand, j, T5);
      (*sums)[T5] = mma_add_product((*sums)[T5], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T5] = mma_add_product((*sums)[NEXT + T5], b, right);
      }
    }
    if (TILES > 6u) {
      let right = met_by_rows(operand, j, T6);
      (*sums)[T6] = mma_add_product((*sums)[T6], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T6] = mma_add_product((*sums)[NEXT + T6], b, right);
      }
    }
    if (TILES > 7u) {
      let right = met_by_rows(operand, j, T7);
      (*sums)[T7] = mma_add_product((*sums)[T7], a, right);
      if (BLOCKS > 1u) {
        (*sums)[NEXT + T7] = mma_add_product((*sums)[NEXT + T7], b, right);
      }
    }
  }
}

// Where the weights of a matrix's met rows lie in a row of the stage.
fn weights_at(j: u32) -> u32 {
  return WEIGHTS + j * STEP;
}

fn halves_of(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}

// Puts results on the first and the last block of the stage once nobody needs what is there, for all to read.
fn stage_results(a: MmaResult, b: MmaResult, work: Work) {
  workgroupBarrier();
  mma_store(&stage[work.subgroup][0], 0u, a, STRIDE);
  if (STAGES > 1u) {
    mma_store(&stage[work.subgroup][STAGES - 1u], 0u, b, STRIDE);
  }
  workgroupBarrier();
}
