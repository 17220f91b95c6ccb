/** KoLeo's gradient in the unit rows: each row's own pull, and that of the rows it is the neighbour of. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { KoleoParams } from './koleo.js';
import { quadsOf } from './storage.js';

/** Bindings: unit rows [rows, columns], neighbour u32 [rows], distance [rows], upstream [1], dx [rows, columns]. */
export function plan({ groups, rowsPerGroup, columns, epsilon }: KoleoParams): KernelPlan {
  const rows = groups * rowsPerGroup;
  return {
    shader: 'koleo_backward.wgsl',
    prelude: { GROUPS: groups, N: rowsPerGroup, QUADS: quadsOf('koleo_backward', columns), EPS: epsilon },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 10 * rows * columns,
    bytes: 8 * rows * (columns + 1),
  };
}
