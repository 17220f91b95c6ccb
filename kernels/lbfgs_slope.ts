/** The gradient of a penalised loss at the trial point of many problems, and the numbers a line search asks for. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type LbfgsParams, problemWidth } from './lbfgs_step.js';
import { quadsOf } from './storage.js';

export interface LbfgsSlopeParams extends LbfgsParams {
  /** Variables of a row (the weights of a class); a multiple of 4 that divides `variables`. */
  readonly rowVariables: number;
  /** Leading variables of each row that are penalised: all but the intercept and what fills the row up. */
  readonly penalised: number;
}

/**
 * Bindings: sums [problems, variables] (gradient of the data term), d [problems, variables], strength [problems], trial
 * (variables, and at `gradientAt` their gradients; read_write), results [problems, 4]: |w|^2 of the penalised, gradient . d, |gradient|^2, |d|^2.
 */
export function plan(
  { problems, variables, gradientAt, rowVariables, penalised }: LbfgsSlopeParams,
  caps: Capabilities,
): KernelPlan {
  const quads = [variables, gradientAt, rowVariables].map((count) => quadsOf('lbfgs_slope', count));
  return {
    shader: 'lbfgs_slope.wgsl',
    prelude: { WIDTH: problemWidth(caps) },
    parameters: [...quads, penalised],
    grid: [problems, 1, 1],
    bindings: ['read', 'read', 'read', 'read_write', 'read_write'],
    flops: 12 * problems * variables,
    bytes: 16 * problems * variables,
  };
}
