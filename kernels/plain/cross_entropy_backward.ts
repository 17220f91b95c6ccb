/** The gradient of cross_entropy.ts in the log-probabilities. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';
import { type LossRowsParams, lossRows } from './cross_entropy.js';

/** Bindings: targets [targetRows, columns], weights [before + rows or more], upstream [terms], dl [rows, columns]. */
export function plan(params: LossRowsParams): KernelPlan {
  const { rows, columns, targetRows } = params;
  const quads = quadsOf('plain/cross_entropy_backward', columns);
  return {
    shader: 'plain/cross_entropy_backward.wgsl',
    prelude: { COUNT: rows * quads, QUADS: quads },
    parameters: lossRows(params),
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read', 'read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * columns * (rows + Math.min(rows, targetRows)),
  };
}
