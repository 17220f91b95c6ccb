// Where the parts of attention's packed tensors begin: qkv [T, 3, HEADS, HEAD_DIM] and out [T, HEADS, HEAD_DIM], seen as quads
// (QUADS a head), and lse [HEADS, T].
const QUADS: u32 = HEAD_DIM / 4u;
const WIDTH: u32 = HEADS * QUADS;

fn q_at(row: u32, head: u32) -> u32 {
  return row * (3u * WIDTH) + head * QUADS;
}

fn k_at(row: u32, head: u32) -> u32 {
  return q_at(row, head) + WIDTH;
}

fn v_at(row: u32, head: u32) -> u32 {
  return q_at(row, head) + 2u * WIDTH;
}

fn out_at(row: u32, head: u32) -> u32 {
  return row * WIDTH + head * QUADS;
}

// QUADS, as a value of the run: a loop to it stays a loop. Mesa's CPU driver unrolls loops to a constant, and each load in
// them takes it a tenth of a second to compile.
fn quads_of_head() -> u32 {
  return arrayLength(&qkv) / (3u * arrayLength(&lse));
}
