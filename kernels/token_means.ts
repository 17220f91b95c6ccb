/** Mean patch token of every sequence, the second half of the features that linear probes see (spec §6.3). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface TokenMeansParams {
  /** Sequences. */
  readonly count: number;
  /** Tokens of a sequence, all kinds. */
  readonly length: number;
  /** Tokens before the first patch: CLS and registers. */
  readonly first: number;
  readonly columns: number;
}

/** Bindings: x [count length, columns], out [count, columns]. */
export function plan({ count, length, first, columns }: TokenMeansParams): KernelPlan {
  const tokens = length - first;
  if (tokens < 1) throw new RangeError(`token means: ${length} tokens with ${first} special ones leave no patches`);
  return {
    shader: 'token_means.wgsl',
    prelude: { COUNT: count, LENGTH: length, FIRST: first, TOKENS: tokens, D: columns },
    grid: foldGrid(count * Math.ceil(columns / 64)),
    bindings: ['read', 'read_write'],
    flops: count * tokens * columns,
    bytes: 4 * count * (tokens + 1) * columns,
  };
}
