/** Gradient of the L2 normalisation of some consecutive rows, with the sum with an earlier gradient in the same pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import { quadInclude, resultInclude, type Storage, storedBytes } from './storage.js';

export interface L2NormalizeBackwardParams {
  /** Rows of x, all of which get a gradient. */
  readonly sourceRows: number;
  /** Rows that were normalised, and the first of them in x. */
  readonly rows: number;
  readonly from: number;
  readonly columns: number;
  readonly epsilon: number;
  /** Whether `sum` is added. */
  readonly add: boolean;
  /** Of x, sum and dx. */
  readonly storage?: Storage;
  /** Of dy. */
  readonly result?: Storage;
}

/**
 * Bindings: x [sourceRows, columns], norms f32 [rows], dy [rows, columns], sum [sourceRows, columns] (any tensor without
 * `add`), dx [sourceRows, columns].
 */
export function plan(
  { sourceRows, rows, from, columns, epsilon, add, storage = 'f32', result = storage }: L2NormalizeBackwardParams,
  caps: Capabilities,
): KernelPlan {
  const [element, upstream] = [storedBytes(storage), storedBytes(result)];
  const held = 4 * (element + upstream);
  const { grid, include, prelude } = rowWork('l2_normalize_backward', sourceRows, columns, held, caps);
  return {
    shader: 'l2_normalize_backward.wgsl',
    includes: [quadInclude(storage), resultInclude(result), include],
    prelude: { ...prelude, N: sourceRows, R: rows, FROM: from, EPS: epsilon, ADD: add },
    grid,
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 6 * rows * columns,
    bytes: ((element + upstream) * rows + element * (add ? 2 : 1) * sourceRows) * columns + 4 * rows,
  };
}
