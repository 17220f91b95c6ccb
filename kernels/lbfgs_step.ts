/** L-BFGS for many problems at once: what follows from an accepted or rejected trial point, up to the next one. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf } from './storage.js';

/** Pairs of steps and changes of the gradient that a problem keeps. */
export const HISTORY = 10;

/** Values of a problem's state: 1 / s.y of each pair, the scale, and the results d.g, |d|^2, |g|^2. */
export const STATE_VALUES = HISTORY + 4;

/** The trial point: thrown away; taken as a fresh start; taken with its pair; thrown away, and the pairs forgotten. */
export const ACTIONS = { retry: 0, start: 1, accept: 2, restart: 3 } as const;

export interface LbfgsParams {
  readonly problems: number;
  /** Of each problem; a multiple of 4. */
  readonly variables: number;
  /** Where in a point the gradients begin, in variables: a multiple of 4, from `problems * variables`. */
  readonly gradientAt: number;
}

/** Invocations that share a problem: a barrier costs little on a GPU, and more than some additions on a CPU. */
export function problemWidth(caps: Capabilities): number {
  return caps.software ? 8 : 256;
}

/**
 * Bindings: trial and point (variables, and at `gradientAt` their gradients), s and y [HISTORY, problems, variables], d
 * [problems, variables], state [problems, STATE_VALUES], control u32 [problems, 4] (action, pairs in use after it, slot of the
 * newest pair, bits of the rate). All but control are read and written.
 */
export function plan({ problems, variables, gradientAt }: LbfgsParams, caps: Capabilities): KernelPlan {
  const total = problems * variables;
  return {
    shader: 'lbfgs_step.wgsl',
    prelude: { WIDTH: problemWidth(caps), HISTORY },
    parameters: [problems, quadsOf('lbfgs_step', variables), quadsOf('lbfgs_step', gradientAt)],
    grid: [problems, 1, 1],
    bindings: ['read_write', 'read_write', 'read_write', 'read_write', 'read_write', 'read_write', 'read'],
    flops: (8 * HISTORY + 16) * total,
    bytes: (16 * HISTORY + 48) * total,
  };
}
