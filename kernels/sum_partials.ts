/** Adds the parts of a split reduction in their order: the same bits on every run. */

import { GpuError } from '../src/errors.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise, resultInclude, type Storage, storedBytes } from './storage.js';

export interface SumPartialsParams {
  readonly parts: number;
  readonly elements: number;
  /** First element read, for partials that hold several sums one after the other. */
  readonly from?: number;
  /** How the sum is stored; f32 by default, and always where `elements` are no whole quads. */
  readonly result?: Storage;
}

/** Bindings: partial f32 [from + parts * elements or more], out [elements]. */
export function plan({ parts, elements, from = 0, result = 'f32' }: SumPartialsParams): KernelPlan {
  // `from` is a multiple of `elements`, so that it begins a quad where they end one.
  const { count, includes } = elementwise(elements, 'f32');
  const quads = count < elements;
  if (!quads && result === 'f16') throw new GpuError(`sum_partials: ${elements} half-precision sums do not fill quads`);
  return {
    shader: 'sum_partials.wgsl',
    includes: [...includes, quads ? resultInclude(result) : 'lib/result_f32_single.wgsl'],
    prelude: { PARTS: parts, COUNT: count, FROM: quads ? from / 4 : from },
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read_write'],
    flops: parts * elements,
    bytes: (4 * parts + storedBytes(result)) * elements,
  };
}
