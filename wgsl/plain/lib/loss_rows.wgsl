// A term of the loss: consecutive student rows, which lie behind those of the terms before in weights and losses.
struct LossRows {
  before: u32,
  term: u32,
  target_rows: u32,
  target_shift: u32,
}

fn target_row(rows: LossRows, r: u32) -> u32 {
  return (r + rows.target_shift) % rows.target_rows;
}
