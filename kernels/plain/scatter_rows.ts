/** The gradient of gather_rows.ts: rows back to where they came from. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';
import type { GatherRowsParams } from './gather_rows.js';

export interface ScatterRowsParams extends GatherRowsParams {
  /** Whether only the first count[0] rows are written. */
  readonly counted: boolean;
}

/** Bindings: dy [rows, columns], index u32 [from + rows or more], count u32 [1] (any tensor without `counted`), dx. */
export function plan({ rows, columns, from, counted }: ScatterRowsParams): KernelPlan {
  const quads = quadsOf('plain/scatter_rows', columns);
  return {
    shader: 'plain/scatter_rows.wgsl',
    prelude: { ROWS: rows, QUADS: quads, FROM: from, COUNTED: counted },
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read', 'read', 'read_write'],
    flops: 0,
    bytes: rows * (8 * columns + 4),
  };
}
