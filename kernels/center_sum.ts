/** Sums of teacher logits over the used rows, by parts; `center_update` is the second stage. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type RowParts, tileParameters, type UsedRowsTile } from './used_rows.js';

export interface CenterSumParams extends UsedRowsTile, RowParts {
  /** Whether partial holds the tiles before this one. */
  readonly continued: boolean;
}

/** Bindings: logits [rows, columns], count u32 [1] (any tensor without `counted`), partial [parts, columns]. */
export function plan(params: CenterSumParams): KernelPlan {
  const { rows, columns, counted, parts, rowsPerPart, continued } = params;
  return {
    shader: 'center_sum.wgsl',
    prelude: { TILE: 3, K: columns, COUNTED: counted, CONTINUED: continued },
    parameters: tileParameters(params, rowsPerPart),
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * (rows + (continued ? 2 : 1) * parts) * columns,
  };
}
