/** The bias of a linear layer, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface AddBiasParams {
  readonly rows: number;
  /** A multiple of 4. */
  readonly columns: number;
}

/** Bindings: y [rows, columns] (updated), bias [columns]. */
export function plan({ rows, columns }: AddBiasParams): KernelPlan {
  const quads = quadsOf('plain/add_bias', columns);
  const count = rows * quads;
  return {
    shader: 'plain/add_bias.wgsl',
    prelude: { COUNT: count, QUADS: quads },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read_write', 'read'],
    flops: rows * columns,
    bytes: 8 * rows * columns + 4 * columns,
  };
}
