/** Sums of one crop group's token gradients over its sequences: what cls, registers, positions and mask token need. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TokenGroupParams } from './assemble_tokens.js';

/** Bindings: dtokens, mask u32 [count, patches] (any tensor without `masked`), sums [1 or 2, 1 + registers + patches, columns]. */
export function plan({ count, patches, registers, columns, firstRow, masked }: TokenGroupParams): KernelPlan {
  const length = 1 + registers + patches;
  return {
    shader: 'token_sums.wgsl',
    prelude: { COUNT: count, PATCHES: patches, REGISTERS: registers, D: columns, FIRST_ROW: firstRow, MASKED: masked },
    grid: foldGrid(Math.ceil((length * columns) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: count * length * columns,
    bytes: 4 * (count + 1) * length * columns,
  };
}
