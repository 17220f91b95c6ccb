/** Sums of teacher logits over the used rows, by parts; `center_update` is the second stage. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TargetRowsParams } from './softmax_center.js';

export interface CenterSumParams extends TargetRowsParams {
  readonly parts: number;
  readonly rowsPerPart: number;
}

/** Bindings: logits [from + rows or more, columns], count u32 [1] (any tensor without `counted`), partial [parts, columns]. */
export function plan({ rows, from, columns, counted, parts, rowsPerPart }: CenterSumParams): KernelPlan {
  return {
    shader: 'center_sum.wgsl',
    prelude: { ROWS: rows, FROM: from, K: columns, ROWS_PER_PART: rowsPerPart, COUNTED: counted },
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * (rows + parts) * columns,
  };
}
