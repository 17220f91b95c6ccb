/** The teacher’s moving average, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface MovingAverageParams {
  /** A multiple of 4. */
  readonly elements: number;
}

/** Bindings: student [elements], step [10 + modules] from optimizer_step.ts, teacher [elements] (updated). */
export function plan({ elements }: MovingAverageParams): KernelPlan {
  const count = quadsOf('plain/moving_average', elements);
  return {
    shader: 'plain/moving_average.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: 3 * elements,
    bytes: 12 * elements,
  };
}
