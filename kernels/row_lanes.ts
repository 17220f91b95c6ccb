/** How the row kernels (those that include lib/rows.wgsl) divide a workgroup of 64 between rows. */

import type { Capabilities } from '../src/gpu/capabilities.js';

/**
 * Lanes a row: a power of two up to 64, about one lane per eight columns, so that short rows share a workgroup. One lane on
 * adapters that run on a CPU, where the barriers of a sum over lanes cost more than the row.
 */
export function rowLanes(columns: number, caps: Capabilities): number {
  if (caps.software) return 1;
  let lanes = 4;
  while (lanes < 64 && lanes * 8 < columns) lanes *= 2;
  return lanes;
}

/** Workgroups for `rows` rows. */
export function rowGroups(rows: number, lanes: number): number {
  return Math.ceil(rows / (64 / lanes));
}
