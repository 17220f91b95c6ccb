/** The gradient of a batch norm's input. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { BatchNormParams } from './batch_norm.js';
import { elementwise } from './storage.js';

export interface BatchNormBackwardParams extends BatchNormParams {
  /** Whether mean and variance are those of x itself, so that they have a gradient too. */
  readonly batch: boolean;
}

/**
 * Bindings: x f32 [rows, columns], mean, variance, weight f32 [columns], sums f32 [2, columns] (any tensor without
 * `batch`), dy, dx f32 [rows, columns].
 */
export function plan({ rows, columns, epsilon, batch }: BatchNormBackwardParams): KernelPlan {
  const { count: width, includes } = elementwise(columns, 'f32');
  return {
    shader: 'batch_norm_backward.wgsl',
    includes,
    prelude: { EPS: epsilon, BATCH: batch },
    parameters: [rows * width, width, rows],
    grid: foldGrid(Math.ceil((rows * width) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 9 * rows * columns,
    bytes: 12 * rows * columns + 20 * columns,
  };
}
