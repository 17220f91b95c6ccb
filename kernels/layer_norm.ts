/** Layer-norm over rows, reading them through an index where one is given (spec §1.3; eps 1e-6, biased variance). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface LayerNormParams {
  /** Rows written. */
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
  /** Whether row r is read at rows[r]. */
  readonly gather: boolean;
  /** Of x and y. */
  readonly storage?: Storage;
}

/**
 * Bindings: x [any, columns], weight f32 [columns], bias f32 [columns], rows u32 [rows] (any tensor without `gather`),
 * y [rows, columns], statistics f32 [rows, 2] (mean, reciprocal standard deviation).
 */
export function plan(
  { rows, columns, epsilon, gather, storage = 'f32' }: LayerNormParams,
  caps: Capabilities,
): KernelPlan {
  const element = storedBytes(storage);
  const { grid, include, prelude } = rowWork('layer_norm', rows, columns, 4 * element, caps);
  return {
    shader: 'layer_norm.wgsl',
    includes: [quadInclude(storage), include],
    prelude: { ...prelude, R: rows, EPS: epsilon, GATHER: gather },
    grid,
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: 8 * rows * columns,
    bytes: 2 * element * rows * columns + 8 * columns + (gather ? 12 : 8) * rows,
  };
}
