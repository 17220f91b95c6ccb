/** Gradient of one crop group's patch embeddings from that of its tokens. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TokenGroupParams } from './assemble_tokens.js';

/** Bindings: dtokens, mask u32 [count, patches] (any tensor without `masked`), dpatches. */
export function plan({
  count,
  patches,
  registers,
  columns,
  firstRow,
  firstPatch,
  masked,
}: TokenGroupParams): KernelPlan {
  const elements = count * patches * columns;
  return {
    shader: 'assemble_tokens_backward.wgsl',
    prelude: {
      COUNT: count,
      PATCHES: patches,
      REGISTERS: registers,
      D: columns,
      FIRST_ROW: firstRow,
      FIRST_PATCH: firstPatch,
      MASKED: masked,
    },
    grid: foldGrid(Math.ceil(elements / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 0,
    bytes: 8 * elements,
  };
}
