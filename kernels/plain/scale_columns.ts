/** LayerScale, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface ScaleColumnsParams {
  readonly rows: number;
  /** A multiple of 4. */
  readonly columns: number;
}

/** Bindings: x [rows, columns], gamma [columns], y [rows, columns]. */
export function plan({ rows, columns }: ScaleColumnsParams): KernelPlan {
  const quads = quadsOf('plain/scale_columns', columns);
  const count = rows * quads;
  return {
    shader: 'plain/scale_columns.wgsl',
    prelude: { COUNT: count, QUADS: quads },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: rows * columns,
    bytes: 8 * rows * columns + 4 * columns,
  };
}
