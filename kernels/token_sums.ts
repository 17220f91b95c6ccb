/** Sums of one crop group's token gradients over its sequences: what cls, registers, positions and mask token need. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TokenGroupParams } from './assemble_tokens.js';
import { columnWork } from './column_lanes.js';
import { quadInclude, storedBytes } from './storage.js';

/** Bindings: dtokens, mask u32 [count, patches] (any tensor without `masked`), sums f32 [1 or 2, 1 + registers + patches, columns]. */
export function plan(
  { count, patches, registers, columns, firstRow, masked, storage = 'f32' }: TokenGroupParams,
  caps: Capabilities,
): KernelPlan {
  const { groups, prelude } = columnWork('token_sums', columns, caps);
  const length = 1 + registers + patches;
  const kinds = masked ? 2 : 1;
  return {
    shader: 'token_sums.wgsl',
    includes: [quadInclude(storage)],
    prelude: {
      ...prelude,
      COUNT: count,
      PATCHES: patches,
      REGISTERS: registers,
      FIRST_ROW: firstRow,
      MASKED: masked,
    },
    grid: [groups, length, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: kinds * count * length * columns,
    bytes: (storedBytes(storage) * count + 4 * kinds) * length * columns,
  };
}
