/** The gradient of the multi-scale gradient loss, gathered by each pixel. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { GradientLossParams } from './gradient_loss_parts.js';
import { depthPrelude } from './sig_loss_moments.js';

/** Bindings: prediction, truth f32 [pictures, height, width], weights f32 [4], upstream f32 [1], dprediction f32 as these. */
export function plan({ pictures, height, width, ...pixels }: GradientLossParams): KernelPlan {
  const rows = pictures * height * width;
  return {
    shader: 'gradient_loss_backward.wgsl',
    prelude: depthPrelude(pixels),
    parameters: [rows, height, width, 0],
    grid: foldGrid(Math.ceil(rows / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 80 * rows,
    bytes: 12 * rows,
  };
}
