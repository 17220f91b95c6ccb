/** Cross-entropy of a tile of student rows against one target row each, and its gradient in the same visit (spec §2.4, §2.5). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf, resultInclude, type Storage, storedBytes } from './storage.js';
import { wideRowLanes } from './wide_rows.js';

export interface CrossEntropyParams {
  /** Student rows of the tile, and of the set before it. */
  readonly rows: number;
  readonly before: number;
  /** Prototypes: a multiple of 4. */
  readonly columns: number;
  /** Rows of the target matrix. */
  readonly targetRows: number;
  /** Row r of the tile has the target row (r + targetShift) mod targetRows. */
  readonly targetShift: number;
  /** Which number of upstream multiplies the gradient. */
  readonly term: number;
  /** Student temperature: 0.1 everywhere in DINOv2, hence a constant. */
  readonly temperature: number;
  /** How the gradient is stored; none without it. */
  readonly gradient?: Storage;
}

/**
 * Bindings: logits [rows, columns], targets [targetRows, columns], weights [before + rows or more], loss of the same
 * length; with `gradient` also upstream [terms] and dlogits [rows, columns].
 * @throws GpuError for a number of prototypes that is not a multiple of 4
 */
export function plan(params: CrossEntropyParams): KernelPlan {
  const { rows, before, columns, targetRows, targetShift, term, temperature, gradient } = params;
  const read = Math.min(rows, targetRows);
  return {
    shader: 'cross_entropy.wgsl',
    prelude: {
      TILE: gradient ? 6 : 4,
      WIDTH: wideRowLanes(columns),
      QUADS: quadsOf('cross_entropy', columns),
      TAU: temperature,
    },
    includes: gradient
      ? [resultInclude(gradient), 'lib/cross_entropy_gradient.wgsl']
      : ['lib/cross_entropy_loss_only.wgsl'],
    parameters: [rows, before, term, targetRows, targetShift],
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read_write', ...(gradient ? (['read', 'read_write'] as const) : [])],
    flops: (gradient ? 18 : 11) * rows * columns,
    bytes: 4 * (rows + read) * columns + (gradient ? storedBytes(gradient) * rows * columns : 0),
  };
}
