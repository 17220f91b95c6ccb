/** KoLeo: nearest neighbours among unit rows of a group, and each row's share of the loss (spec §2.6). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf } from './storage.js';

export interface KoleoParams {
  /** Groups (views) of `rowsPerGroup` rows; a neighbour is of the same group. */
  readonly groups: number;
  readonly rowsPerGroup: number;
  readonly columns: number;
  readonly epsilon: number;
}

/** Bindings: unit rows [groups * rowsPerGroup, columns], neighbour u32, distance and loss [groups * rowsPerGroup]. */
export function plan({ groups, rowsPerGroup, columns, epsilon }: KoleoParams): KernelPlan {
  const rows = groups * rowsPerGroup;
  return {
    shader: 'koleo.wgsl',
    prelude: { GROUPS: groups, N: rowsPerGroup, QUADS: quadsOf('koleo', columns), EPS: epsilon },
    grid: foldGrid(rows),
    bindings: ['read', 'read_write', 'read_write', 'read_write'],
    flops: 2 * rows * (rowsPerGroup + 2) * columns,
    bytes: 4 * rows * (columns + 3),
  };
}
