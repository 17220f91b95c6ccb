/** 3 x 3 neighbourhoods as rows of a matrix: a convolution, and the gradient of its input, become matrix products. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface UnfoldParams {
  /** Rows of the result: pixels from `first` on, over all pictures. */
  readonly rows: number;
  readonly first: number;
  /** The grid that rows run over, and the one that values are read from. */
  readonly height: number;
  readonly width: number;
  readonly xHeight: number;
  readonly xWidth: number;
  /** Of x; any number. */
  readonly channels: number;
  readonly stride: 1 | 2;
  /** Rows are pixels of the convolution's input, x is the gradient of its output. */
  readonly transposed: boolean;
}

/** Bindings: x f32 [pictures, xHeight, xWidth, channels], out f32 [rows, 9 channels] (channel, then tap). */
export function plan(params: UnfoldParams, caps: Capabilities): KernelPlan {
  const { rows, first, height, width, xHeight, xWidth, channels, stride, transposed } = params;
  const values = 9 * rows * channels;
  // Neighbours write neighbours on a GPU; a CPU divides the places of all nine taps out once.
  const taps = caps.software ? 9 : 1;
  const count = values / taps;
  return {
    shader: 'unfold.wgsl',
    prelude: { STRIDE: stride, TRANSPOSED: transposed, TAPS: taps },
    parameters: [count, first, height, width, xHeight, xWidth, channels],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    // Strides and edges aside, every value is read once and written nine times.
    bytes: 4 * (values + (values / 9) * (transposed ? 1 : stride * stride)),
  };
}
