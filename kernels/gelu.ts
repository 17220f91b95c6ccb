/** The exact GELU alone: makes the input of a linear layer again from the pre-activation that was kept. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface GeluParams {
  /** A multiple of 4. */
  readonly elements: number;
  readonly storage?: Storage;
}

/** Bindings: u [elements], y [elements]. */
export function plan({ elements, storage = 'f32' }: GeluParams): KernelPlan {
  const quads = quadsOf('gelu', elements);
  return {
    shader: 'gelu.wgsl',
    includes: [quadInclude(storage)],
    prelude: { COUNT: quads },
    grid: foldGrid(Math.ceil(quads / 256)),
    bindings: ['read', 'read_write'],
    flops: 20 * elements,
    bytes: 2 * storedBytes(storage) * elements,
  };
}
