/** Mean and squared differences of columns over parts of the rows: the first stage of a batch's statistics. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ColumnPartsParams {
  readonly rows: number;
  readonly columns: number;
  /** At most `rows`; see `interleavedParts`. */
  readonly parts: number;
}

/** Bindings: x f32 [rows, columns], partial f32 [parts, 2, columns]. */
export function plan({ rows, columns, parts }: ColumnPartsParams): KernelPlan {
  return {
    shader: 'batch_norm_moments.wgsl',
    prelude: {},
    parameters: [rows, columns, parts],
    grid: foldGrid(Math.ceil((parts * columns) / 64)),
    bindings: ['read', 'read_write'],
    flops: 6 * rows * columns,
    bytes: 4 * (rows + 2 * parts) * columns,
  };
}
