/** Partial column sums of matrices whose rows are no whole quads: bias gradients of 21 classes, of one depth. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** Interleaved parts of the rows for sums down any number of columns: enough to fill the machine, few enough to add up. */
export function interleavedParts(rows: number, columns: number, caps: Capabilities): number {
  const [invocations, rowsEach] = caps.software ? [2 ** 10, 64] : [2 ** 17, 16];
  return Math.max(1, Math.min(Math.ceil(invocations / columns), Math.ceil(rows / rowsEach), 1024));
}

export interface RaggedColumnSumParams {
  readonly rows: number;
  readonly columns: number;
  /** At most `rows`. */
  readonly parts: number;
}

/** Bindings: x f32 [rows, columns], partial f32 [parts, columns]. */
export function plan({ rows, columns, parts }: RaggedColumnSumParams): KernelPlan {
  return {
    shader: 'column_sum_ragged.wgsl',
    prelude: {},
    parameters: [rows, columns, parts],
    grid: foldGrid(Math.ceil((parts * columns) / 64)),
    bindings: ['read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * (rows + parts) * columns,
  };
}
