// Addresses in packed attention tensors, in vec4s: qkv [T, 3, HEADS, HEAD_DIM], out [T, HEADS, HEAD_DIM].
// A tile is (first row, end row) of a sequence and (first row, end row) of the at most ROWS rows a workgroup owns in it.
const QUADS: u32 = HEAD_DIM / 4u;
const WIDTH: u32 = HEADS * QUADS;
const LOWEST: f32 = -3.0e38;

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
