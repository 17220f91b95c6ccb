/** Sinkhorn-Knopp's normalisation over samples, second stage: joins the parts to one center per prototype. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SinkhornColumnJoinParams {
  /** Prototypes. */
  readonly columns: number;
  readonly parts: number;
}

/** Bindings: partial [parts, columns, 2], temperature [1], center [columns]. */
export function plan({ columns, parts }: SinkhornColumnJoinParams): KernelPlan {
  return {
    shader: 'sinkhorn_column_join.wgsl',
    prelude: { K: columns, PARTS: parts },
    grid: [Math.ceil(columns / 64), 1, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: 5 * parts * columns,
    bytes: 4 * (2 * parts + 1) * columns,
  };
}
