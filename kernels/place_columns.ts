/** Writes a matrix into a range of columns of a wider one, each row once or several times: concatenation of features. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise } from './storage.js';

export interface ColumnRangeParams {
  /** Rows of the wide matrix. */
  readonly rows: number;
  readonly columns: number;
  /** First column of the range in the wide matrix. */
  readonly first: number;
  /** Columns of the wide matrix. */
  readonly wide: number;
  /** Rows of the wide matrix to one of the narrow. */
  readonly repeat: number;
}

/** Sizes in quads, or in single values where one of them does not fill quads. */
export function columnUnits({ columns, first, wide }: ColumnRangeParams): {
  unit: number;
  includes: readonly string[];
} {
  const quads = [columns, first, wide].every((size) => size % 4 === 0);
  return { unit: quads ? 4 : 1, includes: elementwise(quads ? 4 : 1, 'f32').includes };
}

/** Bindings: source f32 [rows / repeat, columns], out f32 [rows, wide], of which the other columns stay. */
export function plan(params: ColumnRangeParams): KernelPlan {
  const { rows, columns, first, wide, repeat } = params;
  const { unit, includes } = columnUnits(params);
  return {
    shader: 'place_columns.wgsl',
    includes,
    prelude: {},
    parameters: [rows, columns / unit, first / unit, wide / unit, repeat],
    grid: foldGrid(Math.ceil((rows * columns) / unit / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 4 * (rows + rows / repeat) * columns,
  };
}
