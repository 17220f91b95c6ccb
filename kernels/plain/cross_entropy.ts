/** Cross-entropy of log-probabilities that lie in memory, one number a row (spec §2.4, §2.5). */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';
import { wideRowLanes } from '../wide_rows.js';

/** A term of the loss: consecutive student rows. */
export interface LossRowsParams {
  readonly rows: number;
  /** Rows of the terms before this one. */
  readonly before: number;
  /** Which number of upstream multiplies the gradient. */
  readonly term: number;
  /** Prototypes: a multiple of 4. */
  readonly columns: number;
  /** Row r has the target row (r + targetShift) mod targetRows. */
  readonly targetRows: number;
  readonly targetShift: number;
}

/** `LossRows` in plain/lib/loss_rows.wgsl. */
export function lossRows({ before, term, targetRows, targetShift }: LossRowsParams): readonly number[] {
  return [before, term, targetRows, targetShift];
}

/**
 * Bindings: log-probabilities [rows, columns], targets [targetRows, columns], weights [before + rows or more], loss of the
 * same length.
 */
export function plan(params: LossRowsParams): KernelPlan {
  const { rows, columns, targetRows } = params;
  return {
    shader: 'plain/cross_entropy.wgsl',
    prelude: { ROWS: rows, QUADS: quadsOf('plain/cross_entropy', columns), WIDTH: wideRowLanes(columns) },
    parameters: lossRows(params),
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read_write'],
    flops: 2 * rows * columns,
    bytes: 4 * columns * (rows + Math.min(rows, targetRows)),
  };
}
