/**
 * How kernels hold activations: four neighbours to a `Quad`, in float32 (vec4<f32>) or in half precision (two words, packed
 * with pack2x16float, which every adapter has: no shader-f16). Arithmetic is float32 either way. The last dimension of an
 * activation is a multiple of 4.
 */

import type { Storage } from '../src/gpu/tensor.js';
import { GpuError } from '../src/errors.js';

export type { Storage } from '../src/gpu/tensor.js';

/** Bytes of one element. */
export function storedBytes(storage: Storage): number {
  return storage === 'f16' ? 2 : 4;
}

/** The include that defines `Quad`, `unpack_quad` and `pack_quad`. */
export function quadInclude(storage: Storage): string {
  return `lib/storage_${storage}.wgsl`;
}

/** The include that defines `Result` and `pack_result`, for kernels whose output may be stored otherwise than their input. */
export function resultInclude(storage: Storage): string {
  return `lib/result_${storage}.wgsl`;
}

/** Quads of a row. @throws GpuError for a width that is not a multiple of 4 */
export function quadsOf(kernel: string, columns: number): number {
  if (columns % 4 !== 0) throw new GpuError(`${kernel}: rows of ${columns} values; activations need a multiple of 4`);
  return columns / 4;
}

/** For elementwise kernels, whose text fits any width: how many `Quad`s hold `elements`, and the include that makes them so. */
export function elementwise(elements: number, storage: Storage): { count: number; includes: readonly string[] } {
  if (elements % 4 === 0) return { count: elements / 4, includes: [quadInclude(storage)] };
  if (storage === 'f16') throw new GpuError(`${elements} half-precision values do not fill whole quads`);
  return { count: elements, includes: ['lib/storage_f32_single.wgsl'] };
}
