/** The residual add of a block with LayerScale and batch-subset stochastic depth (spec §1.3, §1.6). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface ScaledResidualParams {
  readonly rows: number;
  readonly columns: number;
  /** Rows of the branch, where it was computed for some rows only. */
  readonly kept?: number;
  readonly gamma: boolean;
  /** Of x, branch and out. */
  readonly storage?: Storage;
}

/**
 * Bindings: x [rows, columns], branch [rows or kept, columns], gamma f32 [columns], inverse u32 [rows], scale f32 [kept],
 * out [rows, columns]. Any bound tensor stands in for gamma, inverse and scale where they are not used.
 */
export function plan({ rows, columns, kept, gamma, storage = 'f32' }: ScaledResidualParams): KernelPlan {
  const quads = quadsOf('scaled_residual', columns);
  const tables = kept === undefined ? 0 : 4 * (rows + kept);
  return {
    shader: 'scaled_residual.wgsl',
    includes: [quadInclude(storage)],
    prelude: { N: rows, QUADS: quads, SUBSET: kept !== undefined, GAMMA: gamma },
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 3 * (kept ?? rows) * columns,
    bytes: storedBytes(storage) * (2 * rows + (kept ?? rows)) * columns + (gamma ? 4 * columns : 0) + tables,
  };
}
