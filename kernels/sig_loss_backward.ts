/** The gradient of the scale-invariant loss. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { depthPrelude, type SigLossMomentsParams } from './sig_loss_moments.js';

/** Bindings: prediction, truth f32 [rows], statistics f32 [4], upstream f32 [1], dprediction f32 [rows]. */
export function plan({ rows, ...pixels }: SigLossMomentsParams): KernelPlan {
  return {
    shader: 'sig_loss_backward.wgsl',
    prelude: depthPrelude(pixels),
    parameters: [rows],
    grid: foldGrid(Math.ceil(rows / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 14 * rows,
    bytes: 12 * rows,
  };
}
