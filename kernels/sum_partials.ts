/** Adds the parts of a split reduction in their order: the same bits on every run. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SumPartialsParams {
  readonly parts: number;
  readonly elements: number;
  /** First element read, for partials that hold several sums one after the other. */
  readonly from?: number;
}

/** Bindings: partial [from + parts * elements or more], out [elements]. */
export function plan({ parts, elements, from = 0 }: SumPartialsParams): KernelPlan {
  return {
    shader: 'sum_partials.wgsl',
    prelude: { PARTS: parts, COUNT: elements, FROM: from },
    grid: foldGrid(Math.ceil(elements / 64)),
    bindings: ['read', 'read_write'],
    flops: parts * elements,
    bytes: 4 * (parts + 1) * elements,
  };
}

/** Rows a part and parts for a sum over `rows` rows of `columns`: enough parts to fill the machine, few enough to add up. */
export function splitRows(rows: number, columns: number): { parts: number; rowsPerPart: number } {
  const wanted = Math.max(1, Math.min(Math.ceil(16384 / columns), Math.ceil(rows / 16)));
  const rowsPerPart = Math.ceil(rows / wanted);
  return { parts: Math.ceil(rows / rowsPerPart), rowsPerPart };
}
