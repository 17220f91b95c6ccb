/** CLS and mean patch token of every sequence side by side: what a classification head sees of a network that trains. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork } from './column_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface PoolTokensParams {
  /** Sequences. */
  readonly count: number;
  /** Tokens of a sequence, all kinds. */
  readonly length: number;
  /** Tokens before the first patch: CLS and registers. */
  readonly first: number;
  readonly columns: number;
  /** Of x and out. */
  readonly storage?: Storage;
}

/** Bindings: x [count length, columns], out [count, 2 columns]. */
export function plan(
  { count, length, first, columns, storage = 'f32' }: PoolTokensParams,
  caps: Capabilities,
): KernelPlan {
  const tokens = length - first;
  const { groups, prelude } = columnWork('pool_tokens', columns, caps);
  return {
    shader: 'pool_tokens.wgsl',
    includes: [quadInclude(storage)],
    prelude: { ...prelude, LENGTH: length, FIRST: first, TOKENS: tokens },
    grid: [groups, count, 1],
    bindings: ['read', 'read_write'],
    flops: count * tokens * columns,
    bytes: storedBytes(storage) * (tokens + 3) * count * columns,
  };
}
