/** Inverts a row index in two dispatches: fill with NONE, then scatter. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface InvertRowsParams {
  /** Which of the two dispatches this is. */
  readonly stage: 'fill' | 'scatter';
  /** Entries of the index. */
  readonly rows: number;
  readonly sourceRows: number;
  /** Whether only the first count[0] entries are live. */
  readonly counted: boolean;
}

/** Bindings: index u32 [rows], count u32 [1] (any u32 tensor without `counted`), inverse u32 [sourceRows]. */
export function plan({ stage, rows, sourceRows, counted }: InvertRowsParams): KernelPlan {
  const fill = stage === 'fill';
  return {
    shader: 'invert_rows.wgsl',
    prelude: { FILL: fill, R: rows, N: sourceRows, COUNTED: counted },
    grid: foldGrid(Math.ceil((fill ? sourceRows : rows) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 0,
    bytes: fill ? 4 * sourceRows : 8 * rows,
  };
}
