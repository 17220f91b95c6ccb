/** Teacher targets: softmax of centered logits (spec §2.2), which is Sinkhorn-Knopp's last step too (§2.3). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { tileParameters, type UsedRowsTile } from './used_rows.js';
import { wideRowLanes } from './wide_rows.js';

/**
 * Bindings: logits [rows, columns], temperature [1], count u32 [1] (any tensor without `counted`), center [columns],
 * targets [rows, columns].
 */
export function plan(params: UsedRowsTile): KernelPlan {
  const { rows, columns, counted } = params;
  return {
    shader: 'softmax_center.wgsl',
    prelude: { TILE: 5, WIDTH: wideRowLanes(columns), K: columns, COUNTED: counted },
    parameters: tileParameters(params),
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 9 * rows * columns,
    bytes: 4 * (2 * rows * columns + columns),
  };
}
