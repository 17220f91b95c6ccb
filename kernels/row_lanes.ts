/** How the row kernels (those that include lib/rows.wgsl) divide a workgroup of 64 between rows. */

/** Lanes a row: a power of two up to 64, about one lane per eight columns, so that short rows share a workgroup. */
export function rowLanes(columns: number): number {
  let lanes = 4;
  while (lanes < 64 && lanes * 8 < columns) lanes *= 2;
  return lanes;
}

/** Workgroups for `rows` rows. */
export function rowGroups(rows: number, lanes: number): number {
  return Math.ceil(rows / (64 / lanes));
}
