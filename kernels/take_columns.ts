/** Takes a range of columns out of a matrix and adds groups of rows: the gradient of place_columns. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { type ColumnRangeParams, columnUnits } from './place_columns.js';

/** Bindings: x f32 [rows, wide], taken f32 [rows / repeat, columns]. */
export function plan(params: ColumnRangeParams): KernelPlan {
  const { rows, columns, first, wide, repeat } = params;
  const { unit, includes } = columnUnits(params);
  return {
    shader: 'take_columns.wgsl',
    includes,
    prelude: {},
    parameters: [rows / repeat, columns / unit, first / unit, wide / unit, repeat],
    grid: foldGrid(Math.ceil((rows * columns) / repeat / unit / 64)),
    bindings: ['read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * (rows + rows / repeat) * columns,
  };
}
