// Division of work of the attention kernels for adapters that run on a CPU: registers only. A tile is four numbers: first and
// end row of a sequence, first and end of the at most eight rows that a workgroup owns in it, for one head. A workgroup is one
// subgroup of LANES and walks the sequence in tiles of 4 LANES rows. A lane multiplies the eight owned rows with four met rows
// of its own, as 4 x 4 matrices, then adds up COLUMNS quads of columns, lane + c LANES, of all eight results.
// Such an adapter loads lane by lane, whatever the addresses, at the price of 64 multiply-adds a lane and quad: so a lane
// loads what no other one loads, and hands it to the others.
// include lib/attention_layout.wgsl
const COLUMNS: u32 = (QUADS + LANES - 1u) / LANES;
// Of a value that the lanes hold for the owned rows: the lane of the fifth. Four lanes hold two rows each.
const FIFTH: u32 = select(4u, 0u, LANES == 4u);
const LOWEST: f32 = -3.0e38;

// Four values of each owned row: a row is a column of a matrix.
struct Owned {
  low: mat4x4<f32>,
  high: mat4x4<f32>,
}

// One value of each owned row.
struct OwnedValue {
  low: vec4<f32>,
  high: vec4<f32>,
}

// A lane's columns of the results.
struct Columns {
  c0: Owned,
  c1: Owned,
  c2: Owned,
  c3: Owned,
}

// The owned rows that a lane loads: the second is another one than the first where there are four lanes.
fn rows_to_load(tile: vec4<u32>, lane: u32) -> vec2<u32> {
  return min(tile.zz + vec2<u32>(lane % 8u, 4u + lane % 4u), tile.ww - 1u);
}

// The met rows of a lane; there may be fewer in the sequence.
fn rows_met(first: u32, lane: u32) -> vec4<u32> {
  return vec4<u32>(first + 4u * lane) + vec4<u32>(0u, 1u, 2u, 3u);
}

// Lanes whose met rows begin in the sequence.
fn lanes_meeting(tile: vec4<u32>, first: u32) -> u32 {
  return min(LANES, (tile.y - first + 3u) / 4u);
}

fn column(lane: u32, c: u32) -> u32 {
  return min(lane + c * LANES, QUADS - 1u);
}

fn gather(first: vec4<f32>, second: vec4<f32>) -> Owned {
  return Owned(
    mat4x4<f32>(subgroupBroadcast(first, 0u), subgroupBroadcast(first, 1u),
                subgroupBroadcast(first, 2u), subgroupBroadcast(first, 3u)),
    mat4x4<f32>(subgroupBroadcast(second, FIFTH), subgroupBroadcast(second, FIFTH + 1u),
                subgroupBroadcast(second, FIFTH + 2u), subgroupBroadcast(second, FIFTH + 3u)));
}

fn qkv_owned(at: vec2<u32>) -> Owned {
  let first = unpack_quad(qkv[at.x]);
  var second = first;
  if (LANES == 4) {
    second = unpack_quad(qkv[at.y]);
  }
  return gather(first, second);
}

fn qkv_met(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(unpack_quad(qkv[at.x]), unpack_quad(qkv[at.y]), unpack_quad(qkv[at.z]), unpack_quad(qkv[at.w]));
}

fn add_product(sum: Owned, left: mat4x4<f32>, right: Owned) -> Owned {
  return Owned(sum.low + left * right.low, sum.high + left * right.high);
}

// Adds to the lane's columns what four met rows of qkv contribute: those whose weights another lane has.
fn add_qkv_rows(sum: Columns, at: vec4<u32>, lane: u32, weights: Owned) -> Columns {
  var result = sum;
  result.c0 = add_product(sum.c0, qkv_met(at + column(lane, 0u)), weights);
  if (COLUMNS > 1) {
    result.c1 = add_product(sum.c1, qkv_met(at + column(lane, 1u)), weights);
  }
  if (COLUMNS > 2) {
    result.c2 = add_product(sum.c2, qkv_met(at + column(lane, 2u)), weights);
  }
  if (COLUMNS > 3) {
    result.c3 = add_product(sum.c3, qkv_met(at + column(lane, 3u)), weights);
  }
  return result;
}

fn matrix_of_lane(m: mat4x4<f32>, lane: u32) -> mat4x4<f32> {
  return mat4x4<f32>(subgroupShuffle(m[0], lane), subgroupShuffle(m[1], lane),
                     subgroupShuffle(m[2], lane), subgroupShuffle(m[3], lane));
}

fn of_lane(own: Owned, lane: u32) -> Owned {
  return Owned(matrix_of_lane(own.low, lane), matrix_of_lane(own.high, lane));
}

// SCALE products + bias, the bias being one of a met row.
fn scores_of(products: Owned, bias: vec4<f32>) -> Owned {
  let biases = mat4x4<f32>(bias, bias, bias, bias);
  return Owned(products.low * SCALE + biases, products.high * SCALE + biases);
}

// What keeps rows behind the end of the sequence out of every softmax.
fn bias_of(met: vec4<u32>, end: u32) -> vec4<f32> {
  return select(vec4<f32>(LOWEST), vec4<f32>(), met < vec4<u32>(end));
}

fn exp_matrix(m: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(exp(m[0] - shift.x), exp(m[1] - shift.y), exp(m[2] - shift.z), exp(m[3] - shift.w));
}

// exp(scores - shift), the shift being one of an owned row.
fn weights_of(scores: Owned, shift: OwnedValue) -> Owned {
  return Owned(exp_matrix(scores.low, shift.low), exp_matrix(scores.high, shift.high));
}

fn scale_matrix(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}

fn scale_rows(own: Owned, by: OwnedValue) -> Owned {
  return Owned(scale_matrix(own.low, by.low), scale_matrix(own.high, by.high));
}

fn scale_columns(sum: Columns, by: OwnedValue) -> Columns {
  return Columns(scale_rows(sum.c0, by), scale_rows(sum.c1, by), scale_rows(sum.c2, by), scale_rows(sum.c3, by));
}

fn row_of(own: Owned, i: u32) -> vec4<f32> {
  return select(own.low[i % 4u], own.high[i % 4u], i > 3u);
}

// Stores a lane's columns of owned row i; `at` is where the row's head begins in the kernel's result.
fn store_row(sum: Columns, i: u32, at: u32, lane: u32) {
  if (lane < QUADS) {
    store_quad(at + lane, row_of(sum.c0, i));
  }
  if (COLUMNS > 1) {
    if (lane + LANES < QUADS) {
      store_quad(at + lane + LANES, row_of(sum.c1, i));
    }
  }
  if (COLUMNS > 2) {
    if (lane + 2u * LANES < QUADS) {
      store_quad(at + lane + 2u * LANES, row_of(sum.c2, i));
    }
  }
  if (COLUMNS > 3) {
    if (lane + 3u * LANES < QUADS) {
      store_quad(at + lane + 3u * LANES, row_of(sum.c3, i));
    }
  }
}
