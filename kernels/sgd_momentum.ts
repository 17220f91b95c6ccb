/** One step of SGD with momentum over the weights of several heads, each with a learning rate of its own (spec §6.3). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf } from './storage.js';

export interface SgdMomentumParams {
  readonly heads: number;
  /** Weights of a head: a multiple of 4. */
  readonly perHead: number;
  readonly momentum: number;
}

/** Bindings: gradient [heads, perHead], rates [heads], weight and velocity [heads, perHead], in place. */
export function plan({ heads, perHead, momentum }: SgdMomentumParams): KernelPlan {
  const quads = quadsOf('sgd_momentum', perHead);
  const count = heads * quads;
  return {
    shader: 'sgd_momentum.wgsl',
    prelude: {},
    parameters: [count, quads, new Uint32Array(Float32Array.of(momentum).buffer)[0]],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 16 * count,
    bytes: 80 * count,
  };
}
