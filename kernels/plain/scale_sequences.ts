/** Stochastic depth by a mask: every sequence times its factor. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface ScaleSequencesParams {
  readonly rows: number;
  /** A multiple of 4. */
  readonly columns: number;
  /** Rows of a sequence. */
  readonly length: number;
  /** The first sequence’s factor. */
  readonly first: number;
}

/** Bindings: x [rows, columns], factors [first + sequences or more], y [rows, columns]. */
export function plan({ rows, columns, length, first }: ScaleSequencesParams): KernelPlan {
  const quads = quadsOf('plain/scale_sequences', columns);
  const count = rows * quads;
  return {
    shader: 'plain/scale_sequences.wgsl',
    prelude: { COUNT: count, QUADS: length * quads },
    parameters: [first],
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: rows * columns,
    bytes: 8 * rows * columns,
  };
}
