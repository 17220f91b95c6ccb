/** One AdamW step and the teacher's moving average in the same pass over a flat buffer of parameters (spec §4.1, §2.8). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AdamWParams, CHUNK_VALUES } from './adamw.js';

/** Bindings: those of adamw.ts, then the teacher, laid out as the student and updated in place. */
export function plan({ chunks, elements }: AdamWParams): KernelPlan {
  return {
    shader: 'adamw_ema.wgsl',
    prelude: { COUNT: chunks },
    grid: foldGrid(chunks),
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write', 'read_write', 'read_write'],
    flops: 19 * elements,
    bytes: 36 * elements + 4 * CHUNK_VALUES * chunks,
  };
}
