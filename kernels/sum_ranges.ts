/** Adds consecutive ranges of rows to one number each, in a fixed order. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SumRangesParams {
  readonly rows: number;
  readonly terms: number;
}

/** Bindings: values [rows], starts u32 [terms + 1] (first row of each range, then the end), out [terms]. */
export function plan({ rows, terms }: SumRangesParams): KernelPlan {
  return {
    shader: 'sum_ranges.wgsl',
    prelude: { WIDTH: 256 },
    grid: [terms, 1, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: rows,
    bytes: 4 * (rows + terms),
  };
}
