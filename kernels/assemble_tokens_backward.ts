/** Gradient of one crop group's patch embeddings from that of its tokens. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TokenGroupParams } from './assemble_tokens.js';
import { quadInclude, quadsOf, storedBytes } from './storage.js';

/** Bindings: dtokens, mask u32 [count, patches] (any tensor without `masked`), dpatches. */
export function plan({
  count,
  patches,
  registers,
  columns,
  firstRow,
  firstPatch,
  masked,
  storage = 'f32',
}: TokenGroupParams): KernelPlan {
  const quads = quadsOf('assemble_tokens_backward', columns);
  return {
    shader: 'assemble_tokens_backward.wgsl',
    includes: [quadInclude(storage)],
    prelude: {
      COUNT: count,
      PATCHES: patches,
      REGISTERS: registers,
      QUADS: quads,
      FIRST_ROW: firstRow,
      FIRST_PATCH: firstPatch,
      MASKED: masked,
    },
    grid: foldGrid(Math.ceil((count * patches * quads) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 0,
    bytes: 2 * storedBytes(storage) * count * patches * columns,
  };
}
