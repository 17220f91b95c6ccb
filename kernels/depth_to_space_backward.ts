/** Pixels to channels: the gradient of depth_to_space. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { DepthToSpaceParams } from './depth_to_space.js';

/** Bindings: dout f32 [pictures, k height, k width, channels], dblocks f32 [pictures, height, width, channels, k, k]. */
export function plan({ pictures, height, width, channels, k }: DepthToSpaceParams): KernelPlan {
  const count = pictures * height * width * channels * k * k;
  return {
    shader: 'depth_to_space_backward.wgsl',
    prelude: {},
    parameters: [count, height, width, channels, k],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 8 * count,
  };
}
