/** Copies the rows that an index names, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface GatherRowsParams {
  /** Rows of the result. */
  readonly rows: number;
  /** A multiple of 4. */
  readonly columns: number;
  /** The first entry of the index that is read. */
  readonly from: number;
}

/** Bindings: x [any, columns], index u32 [from + rows or more], y [rows, columns]. */
export function plan({ rows, columns, from }: GatherRowsParams): KernelPlan {
  const quads = quadsOf('plain/gather_rows', columns);
  return {
    shader: 'plain/gather_rows.wgsl',
    prelude: { ROWS: rows, QUADS: quads, FROM: from },
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: 0,
    bytes: rows * (8 * columns + 4),
  };
}
