/** Cross-entropy of rows of logits against one label each, any number of classes: segmentation. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface PixelCrossEntropyParams {
  readonly rows: number;
  readonly classes: number;
  /** The label of rows that do not count. */
  readonly ignored: number;
}

/** Invocations of a workgroup, as lib/rows.wgsl defines them. */
const ROW_THREADS = 64;

/** Lanes a row of any width, for kernels that include lib/rows.wgsl: one on a CPU, else about four values each. */
export function raggedLanes(columns: number, caps: Capabilities): { lanes: number; groups: (rows: number) => number } {
  let lanes = 1;
  while (!caps.software && lanes < 32 && 4 * lanes < columns) lanes *= 2;
  return { lanes, groups: (rows) => Math.ceil((rows * lanes) / ROW_THREADS) };
}

/** Bindings: logits f32 [rows, classes], labels u32 [rows], terms f32 [2, rows], statistics f32 [rows, 2]. */
export function plan({ rows, classes, ignored }: PixelCrossEntropyParams, caps: Capabilities): KernelPlan {
  const { lanes, groups } = raggedLanes(classes, caps);
  return {
    shader: 'pixel_cross_entropy.wgsl',
    prelude: { LANES: lanes, IGNORED: ignored },
    parameters: [rows, classes],
    grid: foldGrid(groups(rows)),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 5 * rows * classes,
    bytes: 4 * rows * classes + 20 * rows,
  };
}
