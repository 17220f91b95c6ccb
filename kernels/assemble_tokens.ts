/** Builds the token sequences of one crop group from its patch embeddings (spec §1.2, steps 2 to 5). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface TokenGroupParams {
  /** Sequences in the group. */
  readonly count: number;
  readonly patches: number;
  readonly registers: number;
  readonly columns: number;
  /** Row of the packed tokens at which the group begins. */
  readonly firstRow: number;
  /** Row of the packed patch embeddings at which the group begins. */
  readonly firstPatch: number;
  readonly masked: boolean;
  /** Of embeddings, tokens and their gradients. */
  readonly storage?: Storage;
}

/** Bindings: patches, position [1 + patches, columns], cls [columns], registers [registers, columns],
 * mask token [columns], mask u32 [count, patches], tokens (any bound tensor for what the group has not). */
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
  const quads = quadsOf('assemble_tokens', columns);
  const length = 1 + registers + patches;
  return {
    shader: 'assemble_tokens.wgsl',
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
    grid: foldGrid(Math.ceil((count * length * quads) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: count * length * columns,
    bytes: (storedBytes(storage) * count * (patches + length) + 4 * length) * columns,
  };
}
