/** Columns normalised by given statistics (spec §6.6.1; eps 1e-5). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise } from './storage.js';

export interface BatchNormParams {
  readonly rows: number;
  /** Any number. */
  readonly columns: number;
  readonly epsilon: number;
}

/** Bindings: x f32 [rows, columns], mean, variance, weight, bias, f32 [columns] each, y f32 [rows, columns]. */
export function plan({ rows, columns, epsilon }: BatchNormParams): KernelPlan {
  const { count: width, includes } = elementwise(columns, 'f32');
  return {
    shader: 'batch_norm.wgsl',
    includes,
    prelude: { EPS: epsilon },
    parameters: [rows * width, width],
    grid: foldGrid(Math.ceil((rows * width) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 6 * rows * columns,
    bytes: 8 * rows * columns + 16 * columns,
  };
}
