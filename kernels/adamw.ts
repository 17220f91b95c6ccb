/** One AdamW step over a flat buffer of parameters: clip, decay, update in one pass (spec §4.1). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface AdamWParams {
  readonly chunks: number;
  /** Elements in all chunks. */
  readonly elements: number;
}

/** Values of the `hyper` binding: rates and corrections of one step, in the order of `Hyper` in lib/adamw.wgsl. */
export const HYPER_VALUES = 9;

/** Values of one chunk: first quad, end quad, sub-module, last layer or not, and the bits of its two multipliers. */
export const CHUNK_VALUES = 6;

/**
 * Bindings: gradients [flat, whole quads], chunks u32 [chunks, 6], clip coefficients [modules], hyper [9], and, updated in
 * place and laid out as the gradients: student, first moment, second moment.
 */
export function plan({ chunks, elements }: AdamWParams): KernelPlan {
  return {
    shader: 'adamw.wgsl',
    prelude: { COUNT: chunks },
    grid: foldGrid(chunks),
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write', 'read_write'],
    flops: 16 * elements,
    bytes: 28 * elements + 4 * CHUNK_VALUES * chunks,
  };
}
