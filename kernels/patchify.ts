/** Cuts images into patch rows for the patch gemm, normalising bytes on the way (spec §1.2, §3.4). */

import { alignUp } from '../src/gpu/constants.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

/**
 * Columns of a row of patches: 3 patch² padded with zeros, in float32 to a multiple of 4, so that the gemm can take vectors,
 * in half precision to one of 8, since tiles of matrix units are loaded 16 bytes at a time.
 */
export function patchPitch(patch: number, storage: Storage): number {
  return alignUp(3 * patch * patch, 16 / storedBytes(storage));
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
  /** Of `out`. */
  readonly storage?: Storage;
}

/** Bindings: pixels, out [rows, patchPitch(patch, storage)]. */
export function plan({ count, height, width, patch, bytes, firstRow, storage = 'f32' }: PatchifyParams): KernelPlan {
  const quads = patchPitch(patch, storage) / 4;
  const rows = (count * height * width) / (patch * patch);
  const samples = count * height * width * 3;
  return {
    shader: 'patchify.wgsl',
    includes: [quadInclude(storage)],
    prelude: { COUNT: count, H: height, W: width, P: patch, QUADS: quads, BYTES: bytes, FIRST_ROW: firstRow },
    grid: foldGrid(Math.ceil((rows * quads) / 64)),
    bindings: ['read', 'read_write'],
    flops: bytes ? 2 * samples : 0,
    bytes: (bytes ? 1 : 4) * samples + 4 * storedBytes(storage) * rows * quads,
  };
}
