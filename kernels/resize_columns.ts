/** Pads every row of a float32 matrix with zeros, or cuts it, and converts it: patch weights as their gemm wants them. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf, resultInclude, type Storage, storedBytes } from './storage.js';

export interface ResizeColumnsParams {
  /** rows * to is a multiple of 4. */
  readonly rows: number;
  readonly from: number;
  readonly to: number;
  /** How the resized matrix is stored. */
  readonly result?: Storage;
}

/** Bindings: x [rows, from], resized [rows, to]. */
export function plan({ rows, from, to, result = 'f32' }: ResizeColumnsParams): KernelPlan {
  const quads = quadsOf('resize_columns', rows * to);
  return {
    shader: 'resize_columns.wgsl',
    includes: [resultInclude(result)],
    prelude: { QUADS: quads, FROM_COLUMNS: from, TO_COLUMNS: to },
    grid: foldGrid(Math.ceil(quads / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 4 * rows * Math.min(from, to) + storedBytes(result) * rows * to,
  };
}
