/** Mean patch token of every sequence, the second half of the features that linear probes see (spec §6.3). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork } from './column_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface TokenMeansParams {
  /** Sequences. */
  readonly count: number;
  /** Tokens of a sequence, all kinds. */
  readonly length: number;
  /** Tokens before the first patch: CLS and registers. */
  readonly first: number;
  readonly columns: number;
  /** Of x. */
  readonly storage?: Storage;
}

/** Bindings: x [count length, columns], out f32 [count, columns]. */
export function plan(
  { count, length, first, columns, storage = 'f32' }: TokenMeansParams,
  caps: Capabilities,
): KernelPlan {
  const tokens = length - first;
  if (tokens < 1) throw new RangeError(`token means: ${length} tokens with ${first} special ones leave no patches`);
  const { groups, prelude } = columnWork('token_means', columns, caps);
  return {
    shader: 'token_means.wgsl',
    includes: [quadInclude(storage)],
    prelude: { ...prelude, LENGTH: length, FIRST: first, TOKENS: tokens },
    grid: [groups, count, 1],
    bindings: ['read', 'read_write'],
    flops: count * tokens * columns,
    bytes: (storedBytes(storage) * tokens + 4) * count * columns,
  };
}
