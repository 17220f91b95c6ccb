/** Sinkhorn-Knopp's normalisation over samples, first stage: a log-sum-exp per prototype and part of the rows. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type RowParts, tileParameters, type UsedRowsTile } from './used_rows.js';

export interface SinkhornColumnParams extends UsedRowsTile, RowParts {
  /** Whether this is the first iteration, with no row shift yet. */
  readonly first: boolean;
  /** Whether partial holds the tiles before this one. */
  readonly continued: boolean;
}

/**
 * Bindings: logits [rows, columns], temperature [1], count u32 [1] (any tensor without `counted`), row shift [rows] (any
 * tensor with `first`), partial [parts, columns, 2].
 */
export function plan(params: SinkhornColumnParams): KernelPlan {
  const { rows, columns, parts, rowsPerPart, counted, first, continued } = params;
  return {
    shader: 'sinkhorn_column.wgsl',
    prelude: { TILE: 5, K: columns, COUNTED: counted, FIRST: first, CONTINUED: continued },
    parameters: tileParameters(params, rowsPerPart),
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 4 * (rows + (continued ? 4 : 2) * parts) * columns,
  };
}
