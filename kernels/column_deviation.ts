/** Standard deviation of each column over the rows, divided by the number of columns. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork } from './column_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface ColumnDeviationParams {
  readonly rows: number;
  readonly columns: number;
  /** Of x. */
  readonly storage?: Storage;
}

/** Bindings: x [rows, columns], deviation f32 [columns]. */
export function plan({ rows, columns, storage = 'f32' }: ColumnDeviationParams, caps: Capabilities): KernelPlan {
  const { groups, prelude } = columnWork('column_deviation', columns, caps);
  return {
    shader: 'column_deviation.wgsl',
    includes: [quadInclude(storage)],
    prelude: { ...prelude, R: rows },
    grid: [groups, 1, 1],
    bindings: ['read', 'read_write'],
    flops: 4 * rows * columns,
    bytes: (storedBytes(storage) * rows + 4) * columns,
  };
}
