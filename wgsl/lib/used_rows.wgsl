// A tile of the rows of a set. With COUNTED only the first count[0] rows of the set hold something this step (`count` is
// data, declared by the kernel).
struct UsedRowsTile {
  rows: u32,
  // Rows of the set before this tile.
  before: u32,
  rows_per_part: u32,
}
@group(0) @binding(TILE) var<storage, read> tile: UsedRowsTile;

// How many rows of the tile are used: the first ones.
fn used_rows() -> u32 {
  if (COUNTED) {
    return min(max(count[0], tile.before) - tile.before, tile.rows);
  }
  return tile.rows;
}
