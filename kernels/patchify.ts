/** Cuts images into patch rows for the patch gemm, normalising bytes on the way (spec §1.2, §3.4). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** Columns of a row of patches: 3 patch² padded with zeros to a multiple of 4, so that the gemm can take vectors. */
export function patchPitch(patch: number): number {
  return Math.ceil((3 * patch * patch) / 4) * 4;
}

export interface PatchifyParams {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly patch: number;
  /** u8 [count, height, width, 3] to be normalised, instead of f32 [count, 3, height, width]. */
  readonly bytes: boolean;
  /** Row of `out` at which this group's patches begin. */
  readonly firstRow: number;
}

/** Bindings: pixels, out [rows, patchPitch(patch)]. */
export function plan({ count, height, width, patch, bytes, firstRow }: PatchifyParams): KernelPlan {
  const pitch = patchPitch(patch);
  const elements = ((count * height * width) / (patch * patch)) * pitch;
  return {
    shader: 'patchify.wgsl',
    prelude: { COUNT: count, H: height, W: width, P: patch, PITCH: pitch, BYTES: bytes, FIRST_ROW: firstRow },
    grid: foldGrid(Math.ceil(elements / 64)),
    bindings: ['read', 'read_write'],
    flops: bytes ? 2 * elements : 0,
    bytes: (bytes ? 5 : 8) * elements,
  };
}
