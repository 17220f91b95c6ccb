/** Column sums in two stages, both this kernel: the rows in parts (bias gradients), then the parts themselves (`join`). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork, type RowParts } from './column_lanes.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface ColumnSumParams extends RowParts {
  readonly rows: number;
  readonly columns: number;
  /** First element of x that is read; a multiple of 4. */
  readonly from?: number;
  /** Of x. */
  readonly storage?: Storage;
}

/** Bindings: x [rows, columns], after `from` elements of something else; partial f32 [parts, columns]. */
export function plan(
  { rows, columns, parts, rowsPerPart, from = 0, storage = 'f32' }: ColumnSumParams,
  caps: Capabilities,
): KernelPlan {
  const { groups, prelude } = columnWork('column_sum_partials', columns, caps);
  return {
    shader: 'column_sum_partials.wgsl',
    includes: [quadInclude(storage)],
    prelude: { ...prelude, R: rows, FROM: quadsOf('column_sum_partials', from), ROWS_PER_PART: rowsPerPart },
    grid: [groups, parts, 1],
    bindings: ['read', 'read_write'],
    flops: rows * columns,
    bytes: storedBytes(storage) * rows * columns + 4 * parts * columns,
  };
}

/**
 * The second stage of every sum over rows: adds the parts, in an order that only their number decides.
 * Bindings: partial f32 [parts, columns], after `from` elements of other sums; out f32 [columns].
 */
export function join(
  { parts, columns, from }: Pick<ColumnSumParams, 'parts' | 'columns' | 'from'>,
  caps: Capabilities,
): KernelPlan {
  return plan({ rows: parts, columns, parts: 1, rowsPerPart: parts, from }, caps);
}
