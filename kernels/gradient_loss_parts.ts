/** Sums of the multi-scale gradient loss over parts of the pixels (spec §6.5.4, over height and width as §13 says). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type DepthPixels, depthPrelude, PIXEL_THREADS, pixelParts } from './sig_loss_moments.js';

export interface GradientLossParams extends DepthPixels {
  readonly pictures: number;
  readonly height: number;
  readonly width: number;
}

/** Bindings: prediction, truth f32 [pictures, height, width], partial f32 [parts, 2, 4]. */
export function plan({ pictures, height, width, ...pixels }: GradientLossParams): KernelPlan {
  const rows = pictures * height * width;
  const { parts, length } = pixelParts(rows);
  return {
    shader: 'gradient_loss_parts.wgsl',
    prelude: { ...depthPrelude(pixels), THREADS: PIXEL_THREADS },
    parameters: [rows, height, width, length],
    grid: [parts, 1, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: 40 * rows,
    bytes: 8 * rows,
  };
}
