/** How much CLS attends to each token of its sequence: the one row of attention's weights that pictures are made of. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface ClsAttentionParams {
  /** The row of the first sequence's CLS. Default 0. */
  readonly firstRow?: number;
  /** Sequences. */
  readonly count: number;
  /** Tokens of a sequence, CLS first. */
  readonly length: number;
  readonly heads: number;
  /** A multiple of 4 up to 128. */
  readonly headDim: number;
  /** Of qkv. */
  readonly storage?: Storage;
}

/** Quads of the widest head. */
const MAX_QUADS = 32;

/**
 * Bindings: qkv [firstRow + count length or more, 3 heads headDim], weights f32 [count, heads, length].
 * @throws RangeError for wider heads
 */
export function plan({ firstRow = 0, count, length, heads, headDim, storage = 'f32' }: ClsAttentionParams): KernelPlan {
  const quads = quadsOf('cls_attention', headDim);
  if (quads > MAX_QUADS) throw new RangeError(`cls_attention: heads of ${headDim} values; at most ${4 * MAX_QUADS}`);
  const rows = count * heads;
  return {
    shader: 'cls_attention.wgsl',
    includes: [quadInclude(storage)],
    prelude: { MAX_QUADS },
    parameters: [heads, quads, length, rows, firstRow],
    grid: foldGrid(rows),
    bindings: ['read', 'read_write'],
    flops: rows * length * (2 * headDim + 6),
    bytes: storedBytes(storage) * rows * headDim * (length + 1) + 4 * rows * length,
  };
}
