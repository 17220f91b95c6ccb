/**
 * The best rows of every query, kept up to date tile by tile of similarities; exact, equal values by the lower row.
 *
 * Selecting on the GPU leaves only [queries, k] to be read back. On an adapter that runs on the CPU nothing is saved by that,
 * and the barriers of the sort cost more than a heap's one comparison a value: `selectsOnGpu` says which way to take.
 */

import { GpuError } from '../src/errors.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** Longest list: what is kept, and two chunks of candidates, are 8 KiB of workgroup memory. */
export const MOST_KEPT = 256;

const THREADS = 256;

export interface TopKTileParams {
  readonly queries: number;
  /** Columns of a tile. */
  readonly columns: number;
  /** Rows kept of every query, up to `MOST_KEPT`. */
  readonly k: number;
}

/** Whether lists of `k` are better kept by this kernel than by a heap on the CPU. */
export function selectsOnGpu(k: number, caps: Capabilities): boolean {
  return !caps.software && k <= MOST_KEPT;
}

/**
 * Bindings: similarities f32 [queries, columns], tile u32 [2] (row of the first column, columns that count), values f32 and
 * rows u32 [queries, k], both read and written, and started anew where the tile's first row is 0. Tiles must come in order.
 * @throws GpuError for a `k` beyond `MOST_KEPT`
 */
export function plan({ queries, columns, k }: TopKTileParams): KernelPlan {
  if (!(k >= 1 && k <= MOST_KEPT)) throw new GpuError(`top_k_tile: lists of ${k}; it keeps 1 to ${MOST_KEPT}`);
  return {
    shader: 'top_k_tile.wgsl',
    prelude: { THREADS },
    parameters: [queries, columns, k],
    grid: foldGrid(queries),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: queries * columns,
    bytes: 4 * queries * columns + 16 * queries * k,
  };
}
