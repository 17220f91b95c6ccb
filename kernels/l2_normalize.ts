/** L2 normalisation of rows: x / max(|x|, epsilon) (spec §2.1). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import { quadInclude, resultInclude, type Storage, storedBytes } from './storage.js';

export interface L2NormalizeParams {
  /** Rows written. */
  readonly rows: number;
  readonly columns: number;
  /** First row of x that is read. */
  readonly from: number;
  readonly epsilon: number;
  /** Of x. */
  readonly storage?: Storage;
  /** Of y. */
  readonly result?: Storage;
}

/** Bindings: x [from + rows or more, columns], y [rows, columns], norms f32 [rows]. */
export function plan(
  { rows, columns, from, epsilon, storage = 'f32', result = storage }: L2NormalizeParams,
  caps: Capabilities,
): KernelPlan {
  const [read, written] = [storedBytes(storage), storedBytes(result)];
  const { grid, include, prelude } = rowWork('l2_normalize', rows, columns, 4 * read, caps);
  return {
    shader: 'l2_normalize.wgsl',
    includes: [quadInclude(storage), resultInclude(result), include],
    prelude: { ...prelude, R: rows, FROM: from, EPS: epsilon },
    grid,
    bindings: ['read', 'read_write', 'read_write'],
    flops: 3 * rows * columns,
    bytes: (read + written) * rows * columns + 4 * rows,
  };
}
