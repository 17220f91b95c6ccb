/** Partial sums that the gradients of a batch norm's weight, bias and input are made of. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { ColumnPartsParams } from './batch_norm_moments.js';

export interface BatchNormSumsParams extends ColumnPartsParams {
  readonly epsilon: number;
}

/** Bindings: x f32 [rows, columns], mean, variance f32 [columns], dy f32 [rows, columns], partial f32 [parts, 2, columns]. */
export function plan({ rows, columns, parts, epsilon }: BatchNormSumsParams): KernelPlan {
  return {
    shader: 'batch_norm_backward_sums.wgsl',
    prelude: { EPS: epsilon },
    parameters: [rows, columns, parts],
    grid: foldGrid(Math.ceil((parts * columns) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 8 * (rows + parts) * columns,
  };
}
