/** Gradient of the SwiGLU activation. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SwigluBackwardParams {
  readonly rows: number;
  /** Width of the result, half of the input's. */
  readonly hidden: number;
}

/** Bindings: x [rows, 2 hidden], dy [rows, hidden], dx [rows, 2 hidden]. */
export function plan({ rows, hidden }: SwigluBackwardParams): KernelPlan {
  return {
    shader: 'swiglu_backward.wgsl',
    prelude: { R: rows, H: hidden },
    grid: foldGrid(Math.ceil((rows * hidden) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 12 * rows * hidden,
    bytes: 20 * rows * hidden,
  };
}
