/** Last stage of gradient clipping: norm, clip coefficient and finiteness flag of each sub-module (spec §3.1). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ClipCoefficientsParams {
  readonly parameters: number;
  readonly modules: number;
}

/**
 * Bindings: parameter norms [parameters], unusable u32 [parameters], modules u32 [parameters], max norm [1],
 * norms [modules], coefficients [modules], flags u32 [modules].
 */
export function plan({ parameters, modules }: ClipCoefficientsParams): KernelPlan {
  return {
    shader: 'clip_coefficients.wgsl',
    prelude: { LANES: 64, P: parameters, M: modules },
    grid: [1, 1, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write', 'read_write'],
    flops: 2 * parameters * modules,
    bytes: 12 * (parameters + modules),
  };
}
