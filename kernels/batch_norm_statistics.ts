/** Statistics of a batch from their parts, and the step of the running ones. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { ColumnPartsParams } from './batch_norm_moments.js';

export interface BatchStatisticsParams extends ColumnPartsParams {
  /** Share of the new statistics in the running ones. */
  readonly momentum: number;
}

/**
 * Bindings: partial f32 [parts, 2, columns]; mean, variance (biased), running mean, running variance (unbiased), f32
 * [columns] each.
 */
export function plan({ rows, columns, parts, momentum }: BatchStatisticsParams): KernelPlan {
  return {
    shader: 'batch_norm_statistics.wgsl',
    prelude: { MOMENTUM: momentum },
    parameters: [rows, columns, parts],
    grid: [Math.ceil(columns / 64), 1, 1],
    bindings: ['read', 'read_write', 'read_write', 'read_write', 'read_write'],
    flops: 10 * parts * columns,
    bytes: (8 * parts + 24) * columns,
  };
}
