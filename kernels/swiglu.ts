/** The activation of the SwiGLU feed-forward. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface SwigluParams {
  readonly rows: number;
  /** Width of the result, half of the input's. */
  readonly hidden: number;
  readonly storage?: Storage;
}

/** Bindings: x [rows, 2 hidden], y [rows, hidden]. */
export function plan({ rows, hidden, storage = 'f32' }: SwigluParams): KernelPlan {
  const quads = quadsOf('swiglu', hidden);
  return {
    shader: 'swiglu.wgsl',
    includes: [quadInclude(storage)],
    prelude: { R: rows, QUADS: quads },
    grid: foldGrid(Math.ceil((rows * quads) / 256)),
    bindings: ['read', 'read_write'],
    flops: 6 * rows * hidden,
    bytes: 3 * storedBytes(storage) * rows * hidden,
  };
}
