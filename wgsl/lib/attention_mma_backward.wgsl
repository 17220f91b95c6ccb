// What attention's two backward kernels on subgroup matrices share: bindings, and who computes which elements on the stage.
// BLOCKS is 1 and STAGES 2: block SCORES of a subgroup's stage holds own rows times met rows of q and k, block SLOPES those
// of d_out and v. LANES invocations share an own row; each has PART neighbouring columns.
@group(0) @binding(0) var<storage, read> qkv: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> d_out: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_qkv: array<vec4<u32>>;
// include lib/attention_mma.wgsl
const SCORES: u32 = 0u;
const SLOPES: u32 = 1u;
const LANES: u32 = min(SUBGROUP / MMA_M, MET / 8u);
const PART: u32 = MET / LANES;
const HUGE: f32 = 3.0e38;

struct Part {
  live: bool,
  subgroup: u32,
  row: u32,
  column: u32,
}

fn part_of(work: Work) -> Part {
  let row = work.lane / LANES;
  return Part(work.live && row < MMA_M, work.subgroup, min(row, MMA_M - 1u), work.lane % LANES * PART);
}

fn product_at(part: Part, block: u32, i: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(stage[part.subgroup][block][part.row * STRIDE + part.column / 4u + i]);
}

fn put_weights(part: Part, block: u32, weights: array<vec4<u32>, PART / 8u>) {
  for (var i = 0u; i < PART / 8u; i++) {
    stage[part.subgroup][block][part.row * STRIDE + WEIGHTS + part.column / 8u + i] = weights[i];
  }
}

// Of a row: log2 of its sum of exponentials, and delta. A row past the end of the sequence gets weights of zero.
fn statistics_of(row: u32, end: u32, head: u32) -> vec2<f32> {
  let at = head * (arrayLength(&lse) / HEADS) + min(row, end - 1u);
  return vec2<f32>(select(HUGE, LOG2_E * lse[at], row < end), delta[at]);
}

// Writes the block's columns of the own rows, times a factor.
fn write_own(columns: Columns, block: u32, t: u32, factor: f32, work: Work) {
  for (var at = work.lane; at < MMA_M * (MMA_N / 8u); at += SUBGROUP) {
    let row = at / (MMA_N / 8u);
    let octet = at % (MMA_N / 8u);
    let begin = row * STRIDE + 2u * octet;
    if (work.first + row < work.last) {
      d_qkv[(work.first + row) * columns.row_width + columns.first + t * STEP + octet] = halves_of(
        factor * bitcast<vec4<f32>>(stage[work.subgroup][block][begin]),
        factor * bitcast<vec4<f32>>(stage[work.subgroup][block][begin + 1u]));
    }
  }
}
