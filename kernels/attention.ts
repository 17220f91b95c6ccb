/**
 * Softmax attention inside packed sequences, flash style (spec §1.3, §1.8): the kernels that any adapter takes, how they divide
 * the work, and what it costs whatever the family (attention_direct.ts: CPU adapters with subgroups; attention_mma.ts:
 * subgroup matrices).
 *
 * An invocation computes 4 × 4 scores, then a share of the output columns of its four rows, so its loops and registers do
 * not grow with the head dim. Operands come straight from memory; only scores pass through workgroup memory.
 */

import { GpuError } from '../src/errors.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface AttentionParams {
  readonly heads: number;
  /** A multiple of 8 up to 128. */
  readonly headDim: number;
  /** Groups of `count` sequences of `length` rows, in the order of their rows. */
  readonly sequences: readonly { readonly count: number; readonly length: number }[];
  /** Of qkv, the output and their gradients; float32 unless it says otherwise. */
  readonly storage?: Storage;
}

export interface AttentionTile {
  /** Invocations along the rows that a workgroup owns; it owns four times as many rows of each head. */
  readonly own: number;
  /** Invocations along the rows that it walks through. */
  readonly met: number;
  /** Heads a workgroup. */
  readonly units: number;
}

/**
 * Workgroups of 64 on a GPU, of one vector of 8 on a CPU adapter, where wider ones only wait at barriers and short sequences
 * leave them idle. Throws GpuError for a head dim that the kernels do not take.
 */
export function tileShape({ heads, headDim }: AttentionParams, caps: Capabilities): AttentionTile {
  if (!Number.isInteger(headDim / 8) || headDim < 8 || headDim > 128) {
    throw new GpuError(`attention over heads of ${headDim}: the head dim must be a multiple of 8 up to 128`);
  }
  if (!caps.software) return { own: 8, met: 8, units: 1 };
  // At most four vec4s of output columns an invocation: more make the kernel slow to compile.
  const met = headDim <= 32 ? 2 : headDim <= 64 ? 4 : 8;
  return { own: 2, met, units: Math.min(heads, Math.max(1, 4 / met)) };
}

/** u32 [tiles, 4]: first and end row of a sequence, first and end of the at most `ownedRows` rows owned in it. */
export function sequenceTiles(sequences: AttentionParams['sequences'], ownedRows: number): Uint32Array {
  const table: number[] = [];
  let start = 0;
  for (const { count, length } of sequences) {
    for (let s = 0; s < count; s++, start += length) {
      for (let row = 0; row < length; row += ownedRows) {
        table.push(start, start + length, start + row, start + Math.min(row + ownedRows, length));
      }
    }
  }
  return Uint32Array.from(table);
}

/** Rows of each head that a workgroup owns: what its table of tiles is made for. */
export function ownedRows(params: AttentionParams, caps: Capabilities): number {
  return 4 * tileShape(params, caps).own;
}

/** How many tiles `sequenceTiles` makes. */
export function countTiles(sequences: AttentionParams['sequences'], ownedRows: number): number {
  return sequences.reduce((sum, { count, length }) => sum + count * Math.ceil(length / ownedRows), 0);
}

/** Includes, prelude and grid of the kernels that include lib/attention.wgsl. */
export function divideWork(
  params: AttentionParams,
  caps: Capabilities,
): Pick<KernelPlan, 'includes' | 'prelude' | 'grid'> {
  const { own, met, units } = tileShape(params, caps);
  const { heads, headDim, sequences, storage = 'f32' } = params;
  return {
    includes: [quadInclude(storage)],
    prelude: { HEADS: heads, HEAD_DIM: headDim, SCALE: headDim ** -0.5, OWN: own, MET: met, UNITS: units },
    grid: foldGrid(countTiles(sequences, 4 * own) * Math.ceil(heads / units)),
  };
}

/** FLOPs of one product of all scores (2 head dims a score); bytes of one head-wide value and one number of all heads and rows. */
export function work({ heads, headDim, sequences, storage = 'f32' }: AttentionParams): {
  rows: number;
  productFlops: number;
  matrixBytes: number;
  statisticBytes: number;
} {
  let rows = 0;
  let pairs = 0;
  for (const { count, length } of sequences) {
    rows += count * length;
    pairs += count * length * length;
  }
  return {
    rows,
    productFlops: 2 * headDim * heads * pairs,
    matrixBytes: storedBytes(storage) * rows * heads * headDim,
    statisticBytes: 4 * rows * heads,
  };
}

/** FLOPs and bytes of the forward kernel, however it divides its work. */
export function forwardCost(params: AttentionParams): Pick<KernelPlan, 'flops' | 'bytes'> {
  const { productFlops, matrixBytes, statisticBytes } = work(params);
  return { flops: 2 * productFlops, bytes: 4 * matrixBytes + statisticBytes };
}

/** Bindings: qkv [T, 3 · heads · headDim], tiles u32 [tiles, 4], out [T, heads · headDim], lse f32 [heads, T]. */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  return {
    shader: 'attention.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    ...forwardCost(params),
  };
}
