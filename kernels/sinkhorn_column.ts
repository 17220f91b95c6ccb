/** Sinkhorn-Knopp's normalisation over samples, first stage: a log-sum-exp per prototype and part of the rows. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SinkhornColumnParams {
  /** Rows that may be used, and the first of them. */
  readonly rows: number;
  readonly from: number;
  /** Prototypes. */
  readonly columns: number;
  readonly parts: number;
  readonly rowsPerPart: number;
  /** Whether only the first count[0] rows are used. */
  readonly counted: boolean;
  /** Whether this is the first iteration, with no row shift yet. */
  readonly first: boolean;
}

/**
 * Bindings: logits [from + rows or more, columns], temperature [1], count u32 [1] (any tensor without `counted`),
 * row shift [rows] (any tensor with `first`), partial [parts, columns, 2].
 */
export function plan(params: SinkhornColumnParams): KernelPlan {
  const { rows, from, columns, parts, rowsPerPart, counted, first } = params;
  return {
    shader: 'sinkhorn_column.wgsl',
    prelude: { ROWS: rows, FROM: from, K: columns, ROWS_PER_PART: rowsPerPart, COUNTED: counted, FIRST: first },
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 4 * (rows + 2 * parts) * columns,
  };
}
