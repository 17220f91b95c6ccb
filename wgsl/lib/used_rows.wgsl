// How many of ROWS rows hold something this step: `count` (data, declared by the kernel) with COUNTED, else all.
fn used_rows() -> u32 {
  if (COUNTED) {
    return min(count[0], ROWS);
  }
  return ROWS;
}
