/** One AdamW step over a flat buffer of parameters, and what follows the weights, in one pass (spec §4.1, §2.8). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** What is written with the student's new weights: nothing, the teacher, or the teacher and both half copies. */
export type Followers = 'none' | 'teacher' | 'teacher_and_halves';

export interface AdamWParams {
  readonly chunks: number;
  /** Elements in all chunks. */
  readonly elements: number;
  readonly followers: Followers;
}

/** Values of one chunk: first quad, end quad, sub-module, last layer or not, and the bits of its two multipliers. */
export const CHUNK_VALUES = 6;

/** Bindings, bytes and operations an element that each kind of followers adds. */
const FOLLOWERS = {
  none: { buffers: 0, bytes: 0, flops: 0 },
  teacher: { buffers: 1, bytes: 8, flops: 3 },
  teacher_and_halves: { buffers: 2, bytes: 12, flops: 3 },
};

/**
 * Bindings: gradients [flat, whole quads], chunks u32 [chunks, 6], step [10 + modules] from optimizer_step.ts, and, written
 * in place and laid out as the gradients: student, first moment, second moment, teacher (where there is one), and the
 * halves of student and teacher, f16 [2, flat].
 */
export function plan({ chunks, elements, followers }: AdamWParams): KernelPlan {
  const { buffers, bytes, flops } = FOLLOWERS[followers];
  return {
    shader: 'adamw.wgsl',
    includes: [`lib/followers_${followers}.wgsl`],
    prelude: { COUNT: chunks },
    grid: foldGrid(chunks),
    bindings: ['read', 'read', 'read', ...new Array<'read_write'>(3 + buffers).fill('read_write')],
    flops: (16 + flops) * elements,
    bytes: (28 + bytes) * elements + 4 * CHUNK_VALUES * chunks,
  };
}
