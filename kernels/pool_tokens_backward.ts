/** Gradient of pool_tokens in the tokens. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { PoolTokensParams } from './pool_tokens.js';
import { quadInclude, quadsOf, storedBytes } from './storage.js';

/** Bindings: dout [count, 2 columns], dx [count length, columns]. */
export function plan({ count, length, first, columns, storage = 'f32' }: PoolTokensParams): KernelPlan {
  const quads = quadsOf('pool_tokens_backward', columns);
  return {
    shader: 'pool_tokens_backward.wgsl',
    includes: [quadInclude(storage)],
    prelude: { COUNT: count, LENGTH: length, FIRST: first, TOKENS: length - first, QUADS: quads },
    grid: foldGrid(Math.ceil((count * length * quads) / 64)),
    bindings: ['read', 'read_write'],
    flops: count * (length - first) * columns,
    bytes: storedBytes(storage) * (length + 2) * count * columns,
  };
}
