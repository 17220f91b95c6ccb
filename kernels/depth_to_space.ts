/** Channels to pixels: the last stage of a transposed convolution whose kernel is as wide as its stride. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface DepthToSpaceParams {
  readonly pictures: number;
  /** Of the coarse map. */
  readonly height: number;
  readonly width: number;
  /** Of the fine map. */
  readonly channels: number;
  readonly k: number;
}

/**
 * Bindings: blocks f32 [pictures, height, width, channels, k, k], bias f32 [channels], out f32 [pictures, k height, k width,
 * channels].
 */
export function plan({ pictures, height, width, channels, k }: DepthToSpaceParams): KernelPlan {
  const count = pictures * height * width * channels * k * k;
  return {
    shader: 'depth_to_space.wgsl',
    prelude: {},
    parameters: [count, height, width, channels, k],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: count,
    bytes: 8 * count,
  };
}
