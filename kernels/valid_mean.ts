/** The mean of a loss over the rows that count, from sums over parts of the rows. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

/** Bindings: partial f32 [2, parts] (sums, counts), totals f32 [2], mean f32 [1]. */
export function plan({ parts }: { readonly parts: number }): KernelPlan {
  return {
    shader: 'valid_mean.wgsl',
    prelude: { WIDTH: 256 },
    parameters: [parts],
    grid: [1, 1, 1],
    bindings: ['read', 'read_write', 'read_write'],
    flops: 2 * parts,
    bytes: 8 * parts,
  };
}
