/** Second stage of the gradients' norms: one unscaled number a parameter, from the chunks' partial sums. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ParameterNormsParams {
  readonly parameters: number;
  /** Chunks of all parameters. */
  readonly chunks: number;
}

/**
 * Bindings: partial [chunks, 2], parameters u32 [parameters, 2] (first and end chunk), state of the loss scale [5], norms
 * [parameters], unusable u32 [parameters].
 */
export function plan({ parameters, chunks }: ParameterNormsParams): KernelPlan {
  return {
    shader: 'parameter_norms.wgsl',
    prelude: { LANES: 64, P: parameters },
    grid: foldGrid(parameters),
    bindings: ['read', 'read', 'read', 'read_write', 'read_write'],
    flops: 2 * chunks,
    bytes: 8 * chunks + 16 * parameters,
  };
}
