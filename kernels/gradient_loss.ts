/** The multi-scale gradient loss from its parts. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { PIXEL_THREADS } from './sig_loss_moments.js';

/** Bindings: partial f32 [parts, 2, 4], weights f32 [4], loss f32 [1]. */
export function plan({ parts }: { readonly parts: number }): KernelPlan {
  return {
    shader: 'gradient_loss.wgsl',
    prelude: { THREADS: PIXEL_THREADS },
    parameters: [parts],
    grid: [1, 1, 1],
    bindings: ['read', 'read_write', 'read_write'],
    flops: 8 * parts,
    bytes: 32 * parts,
  };
}
