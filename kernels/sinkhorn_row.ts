/** Sinkhorn-Knopp's normalisation over prototypes: one shift per sample. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { tileParameters, type UsedRowsTile } from './used_rows.js';
import { wideRowLanes } from './wide_rows.js';

/**
 * Bindings: logits [rows, columns], temperature [1], count u32 [1] (any tensor without `counted`), center [columns],
 * row shift [rows].
 */
export function plan(params: UsedRowsTile): KernelPlan {
  const { rows, columns, counted } = params;
  return {
    shader: 'sinkhorn_row.wgsl',
    prelude: { TILE: 5, WIDTH: wideRowLanes(columns), K: columns, COUNTED: counted },
    parameters: tileParameters(params),
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 4 * (rows * columns + columns + rows),
  };
}
