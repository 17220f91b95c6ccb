/** Moments of the logarithmic error of a depth map over parts of its pixels: the first stage of the scale-invariant loss. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { Prelude } from '../src/gpu/shaders.js';

/** Which pixels count, for the kernels that include lib/depth_pixels.wgsl. */
export interface DepthPixels {
  /** Added to both depths before the logarithm. */
  readonly epsilon: number;
  /** Pixels of a greater true depth do not count; none without it. */
  readonly maxDepth?: number;
}

/** No depth is greater, in any unit; far enough below the largest float32 that ratios of depths are float32 too. */
const GREATEST_DEPTH = 1e30;

export function depthPrelude({ epsilon, maxDepth }: DepthPixels): Prelude {
  return { EPS: epsilon, MAX_DEPTH: Math.min(maxDepth ?? GREATEST_DEPTH, GREATEST_DEPTH) };
}

/** Pixels of a part and lanes of its workgroup. */
export const PIXEL_THREADS = 64;

/** Parts of a sum over pixels: long enough to be worth a workgroup, few enough to be joined by one. */
export function pixelParts(rows: number): { parts: number; length: number } {
  const length = Math.ceil(rows / Math.min(Math.ceil(rows / 1024), 1024));
  return { parts: Math.ceil(rows / length), length };
}

export interface SigLossMomentsParams extends DepthPixels {
  readonly rows: number;
}

/** Bindings: prediction f32 [rows], truth f32 [rows] (read as bits), partial f32 [parts, 3]. */
export function plan({ rows, ...pixels }: SigLossMomentsParams): KernelPlan {
  const { parts, length } = pixelParts(rows);
  return {
    shader: 'sig_loss_moments.wgsl',
    prelude: { ...depthPrelude(pixels), THREADS: PIXEL_THREADS },
    parameters: [rows, length],
    grid: [parts, 1, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: 10 * rows,
    bytes: 8 * rows,
  };
}
