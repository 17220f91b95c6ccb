/** Bilinear resize of feature maps, any size to any size, with PyTorch's two ways to place the corners. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise } from './storage.js';

export interface ResizeBilinearParams {
  readonly pictures: number;
  readonly inHeight: number;
  readonly inWidth: number;
  readonly outHeight: number;
  readonly outWidth: number;
  /** Any number. */
  readonly channels: number;
}

/**
 * For every output of one axis: the first of its two inputs, and the bits of the second one's share. In float32, as
 * PyTorch computes them. With `alignCorners` the centres of the corner pixels meet, without it the pictures' edges do.
 * @returns u32 [outputs, 2]
 */
export function axisTaps(inputs: number, outputs: number, alignCorners: boolean): Uint32Array {
  const scale = Math.fround(alignCorners ? (outputs > 1 ? (inputs - 1) / (outputs - 1) : 0) : inputs / outputs);
  const taps = new Uint32Array(2 * outputs);
  const shares = new Float32Array(taps.buffer);
  for (let o = 0; o < outputs; o++) {
    const source = alignCorners
      ? Math.fround(scale * o)
      : Math.max(0, Math.fround(Math.fround(scale * Math.fround(o + 0.5)) - 0.5));
    const first = Math.min(Math.floor(source), inputs - 1);
    taps[2 * o] = first;
    shares[2 * o + 1] = source - first;
  }
  return taps;
}

/** For every input of one axis: the first output that it has a share in, and the one past the last. u32 [inputs, 2]. */
export function axisRanges(inputs: number, taps: Uint32Array): Uint32Array {
  const ranges = new Uint32Array(2 * inputs);
  const outputs = taps.length / 2;
  for (let o = outputs - 1; o >= 0; o--) {
    for (const input of [taps[2 * o], Math.min(taps[2 * o] + 1, inputs - 1)]) {
      ranges[2 * input] = o;
      ranges[2 * input + 1] = Math.max(ranges[2 * input + 1], o + 1);
    }
  }
  return ranges;
}

/** What both directions share: includes and run-time sizes. */
export function resizeWork({ pictures, inHeight, inWidth, outHeight, outWidth, channels }: ResizeBilinearParams): {
  unit: number;
  plan: Pick<KernelPlan, 'includes' | 'parameters' | 'prelude'>;
} {
  const { count, includes } = elementwise(channels, 'f32');
  return {
    unit: channels / count,
    plan: { includes, prelude: {}, parameters: [pictures, inHeight, inWidth, outHeight, outWidth, count] },
  };
}

/** Bindings: x f32 [pictures, inHeight, inWidth, channels], taps u32 [outHeight + outWidth, 2], y f32 of the output's size. */
export function plan(params: ResizeBilinearParams): KernelPlan {
  const { pictures, inHeight, inWidth, outHeight, outWidth, channels } = params;
  const { unit, plan: work } = resizeWork(params);
  const outputs = pictures * outHeight * outWidth * channels;
  return {
    ...work,
    shader: 'resize_bilinear.wgsl',
    grid: foldGrid(Math.ceil(outputs / unit / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 9 * outputs,
    bytes: 4 * (outputs + pictures * inHeight * inWidth * channels),
  };
}
