/** Decides the optimizer's step: norms of the sub-modules, clip coefficients, bias corrections, next loss scale (spec §3.1). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface OptimizerStepParams {
  readonly parameters: number;
  readonly modules: number;
  /** Clean steps in a row after which the loss scale doubles; 0: it never grows. */
  readonly growthInterval: number;
}

/** Values of the `rates` binding: `Rates` in lib/optimizer_step.wgsl. */
export const RATE_VALUES = 8;

/** Where the coefficients begin in the `step` binding: `Step` in lib/optimizer_step.wgsl. */
export const STEP_COEFFICIENTS = RATE_VALUES + 2;

/** Values of the `state` binding: `LossScale` in lib/loss_scale.wgsl. */
export const STATE_VALUES = 5;

/** Largest loss scale. Gradients of 2^48 and more are unusable, so only gradients near zero get here. */
export const MAX_SCALE = 2 ** 40;

/**
 * Bindings: parameter norms [parameters], unusable u32 [parameters], modules u32 [parameters], rates [8], state [5]
 * (updated), step [10 + modules], norms [modules], flags u32 [modules].
 */
export function plan({ parameters, modules, growthInterval }: OptimizerStepParams): KernelPlan {
  return {
    shader: 'optimizer_step.wgsl',
    prelude: { LANES: 64, P: parameters, M: modules, GROWTH_INTERVAL: growthInterval, MAX_SCALE },
    grid: [1, 1, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write', 'read_write', 'read_write'],
    flops: 2 * parameters * modules,
    bytes: 12 * (parameters + modules) + 4 * (RATE_VALUES + STEP_COEFFICIENTS + 2 * STATE_VALUES),
  };
}
