/** Random permutations as ranks, several groups and branches at once (stochastic depth, spec §1.6). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface RandomRankParams {
  readonly branches: number;
  /** Items of each group. */
  readonly sizes: readonly number[];
  /** Elements from one branch's ranks to the next's; at least the sum of the sizes. */
  readonly pitch: number;
  /** What the numbers are for: the last word of the counter. */
  readonly stream: number;
}

/** Rows (first item, size, end with padding, 0) of the shader's table of groups. The last group covers the padding. */
export function groupTable({ sizes, pitch }: Pick<RandomRankParams, 'sizes' | 'pitch'>): Uint32Array {
  let first = 0;
  const rows = sizes.map((size, g) => {
    const row = [first, size, g === sizes.length - 1 ? pitch - first : size, 0];
    first += size;
    return row;
  });
  return Uint32Array.from(rows.flat());
}

/** Bindings: seed u32 [3] (low, high, step), groups u32 [groups, 4], ranks u32 [branches, pitch]. */
export function plan({ branches, sizes, pitch, stream }: RandomRankParams): KernelPlan {
  const table = groupTable({ sizes, pitch });
  const longest = Math.max(...sizes.map((_, g) => table[4 * g + 2]));
  return {
    shader: 'random_rank.wgsl',
    prelude: { GROUPS: sizes.length, PITCH: pitch, STREAM: stream },
    grid: [Math.ceil(longest / 256), branches, sizes.length],
    bindings: ['read', 'read', 'read_write'],
    flops: 2 * branches * sizes.reduce((sum, size) => sum + size * size, 0),
    bytes: 4 * branches * pitch,
  };
}
