/** Gradient of the SwiGLU activation. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, storedBytes } from './storage.js';
import type { SwigluParams } from './swiglu.js';

/** Bindings: x [rows, 2 hidden], dy [rows, hidden], dx [rows, 2 hidden]. */
export function plan({ rows, hidden, storage = 'f32' }: SwigluParams): KernelPlan {
  const quads = quadsOf('swiglu_backward', hidden);
  return {
    shader: 'swiglu_backward.wgsl',
    includes: [quadInclude(storage)],
    prelude: { R: rows, QUADS: quads },
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: 12 * rows * hidden,
    bytes: 5 * storedBytes(storage) * rows * hidden,
  };
}
