/** The gradient of log_softmax.ts. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';
import { wideRowLanes } from '../wide_rows.js';
import type { LogSoftmaxParams } from './log_softmax.js';

/** Bindings: l [rows, columns], dl [rows, columns], dz [rows, columns]. */
export function plan({ rows, columns }: LogSoftmaxParams): KernelPlan {
  return {
    shader: 'plain/log_softmax_backward.wgsl',
    prelude: { ROWS: rows, QUADS: quadsOf('plain/log_softmax_backward', columns), WIDTH: wideRowLanes(columns) },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read_write'],
    flops: 4 * rows * columns,
    bytes: 12 * rows * columns,
  };
}
