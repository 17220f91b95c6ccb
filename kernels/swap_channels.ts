/** A convolution's weight with its first two dimensions swapped. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface SwapChannelsParams {
  readonly outputs: number;
  readonly channels: number;
  readonly taps: number;
}

/** Bindings: weight f32 [outputs, channels, taps], swapped f32 [channels, outputs, taps]. */
export function plan({ outputs, channels, taps }: SwapChannelsParams): KernelPlan {
  const elements = outputs * channels * taps;
  return {
    shader: 'swap_channels.wgsl',
    prelude: {},
    parameters: [outputs, channels, taps],
    grid: foldGrid(Math.ceil(elements / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 8 * elements,
  };
}
