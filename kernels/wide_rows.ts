/** How the kernels over wide rows (those that include lib/wide_rows.wgsl) choose their workgroup: one row, 64 to 256 lanes. */

/** Lanes a row: a power of two from 64 to 256, at least four columns a lane where the row is that long. */
export function wideRowLanes(columns: number): number {
  let lanes = 64;
  while (lanes < 256 && lanes * 4 < columns) lanes *= 2;
  return lanes;
}

/** Parts for a sum down the rows of a wide matrix, four rows at a time: enough invocations to fill a large GPU. */
export function splitWideRows(rows: number, columns: number): { parts: number; rowsPerPart: number } {
  const wanted = Math.max(1, Math.min(Math.ceil(2 ** 19 / columns), Math.ceil(rows / 16)));
  const rowsPerPart = 4 * Math.ceil(rows / wanted / 4);
  return { parts: Math.ceil(rows / rowsPerPart), rowsPerPart };
}
