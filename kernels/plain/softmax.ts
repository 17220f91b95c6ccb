/** Softmax of rows of attention scores, by itself. */

import type { Capabilities } from '../../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';

export interface SoftmaxParams {
  readonly rows: number;
  /** Tokens of a sequence: any number. */
  readonly columns: number;
}

/** Invocations of a workgroup, as lib/rows.wgsl defines them. */
const THREADS = 64;

/** On a GPU neighbours share a row; on a CPU the barriers of a sum over lanes would cost more than the row. */
export function softmaxWork({ rows, columns }: SoftmaxParams, caps: Capabilities) {
  const lanes = caps.software ? 1 : 32;
  return {
    prelude: { LANES: lanes },
    parameters: [rows, columns],
    grid: foldGrid(Math.ceil((rows * lanes) / THREADS)),
  };
}

/** Bindings: s [rows, columns], p [rows, columns]. */
export function plan(params: SoftmaxParams, caps: Capabilities): KernelPlan {
  const { rows, columns } = params;
  return {
    shader: 'plain/softmax.wgsl',
    ...softmaxWork(params, caps),
    bindings: ['read', 'read_write'],
    flops: 7 * rows * columns,
    bytes: 8 * rows * columns,
  };
}
