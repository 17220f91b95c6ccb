/** The scale-invariant loss from the moments of the logarithmic error (spec §6.5.4). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { PIXEL_THREADS } from './sig_loss_moments.js';

export interface SigLossParams {
  readonly parts: number;
  /** Weight of the squared mean beside the variance. */
  readonly meanWeight: number;
}

/** Bindings: partial f32 [parts, 3], warmUp u32 [1], statistics f32 [4], loss f32 [1]. */
export function plan({ parts, meanWeight }: SigLossParams): KernelPlan {
  return {
    shader: 'sig_loss.wgsl',
    prelude: { THREADS: PIXEL_THREADS, MEAN_WEIGHT: meanWeight },
    parameters: [parts],
    grid: [1, 1, 1],
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 8 * parts,
    bytes: 12 * parts,
  };
}
