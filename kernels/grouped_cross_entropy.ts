/** Softmax cross-entropy against labels, for many classifiers side by side that see the same rows, with its gradient. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { alignUp } from '../src/gpu/constants.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** Invocations of a workgroup. */
const THREADS = 64;

export interface GroupedCrossEntropyParams {
  readonly rows: number;
  /** Classifiers. */
  readonly groups: number;
  /** Of each classifier. */
  readonly classes: number;
  /** What each gradient is multiplied with, such as 1 / rows. */
  readonly scale: number;
}

/** Columns of the logits: all classes of all groups, filled up to whole quads that stay untouched. */
export function logitColumns({ groups, classes }: Pick<GroupedCrossEntropyParams, 'groups' | 'classes'>): number {
  return alignUp(groups * classes, 4);
}

/** Columns of the losses: a group each, filled up to whole quads that nothing writes. */
export function lossColumns({ groups }: Pick<GroupedCrossEntropyParams, 'groups'>): number {
  return alignUp(groups, 4);
}

/**
 * Bindings: logits [rows, logitColumns], which become the gradient; labels u32 [rows], each below `classes`; losses
 * [rows, lossColumns].
 */
export function plan(params: GroupedCrossEntropyParams, caps: Capabilities): KernelPlan {
  const { rows, groups, classes, scale } = params;
  // On a CPU the barriers of a sum over lanes cost more than the row.
  let lanes = 1;
  while (!caps.software && lanes < 32 && lanes < classes) lanes *= 2;
  const pitch = logitColumns(params);
  const scaleBits = new Uint32Array(Float32Array.of(scale).buffer)[0];
  return {
    shader: 'grouped_cross_entropy.wgsl',
    prelude: { LANES: lanes },
    parameters: [rows, groups, classes, pitch, lossColumns(params), scaleBits],
    grid: foldGrid(Math.ceil((rows * groups * lanes) / THREADS)),
    bindings: ['read_write', 'read', 'read_write'],
    flops: 6 * rows * groups * classes,
    bytes: 8 * rows * pitch + 4 * rows + 4 * rows * lossColumns(params),
  };
}
