/** The activation of the SwiGLU feed-forward. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SwigluParams {
  readonly rows: number;
  /** Width of the result, half of the input's. */
  readonly hidden: number;
}

/** Bindings: x [rows, 2 hidden], y [rows, hidden]. */
export function plan({ rows, hidden }: SwigluParams): KernelPlan {
  return {
    shader: 'swiglu.wgsl',
    prelude: { R: rows, H: hidden },
    grid: foldGrid(Math.ceil((rows * hidden) / 64)),
    bindings: ['read', 'read_write'],
    flops: 6 * rows * hidden,
    bytes: 12 * rows * hidden,
  };
}
