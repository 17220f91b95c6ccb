/**
 * WebGPU's flag constants, by value (WebGPU specification, "GPUBufferUsage" and "GPUMapMode").
 * The library never reads the globals of the same names: Node has none, and a page may not expose them to a worker.
 */

export const BufferUsage = {
  MAP_READ: 0x0001,
  MAP_WRITE: 0x0002,
  COPY_SRC: 0x0004,
  COPY_DST: 0x0008,
  UNIFORM: 0x0040,
  STORAGE: 0x0080,
  QUERY_RESOLVE: 0x0200,
} as const;

export const MapMode = { READ: 1, WRITE: 2 } as const;

export const ShaderStage = { COMPUTE: 4 } as const;

/** Every tensor starts at a multiple of this, so that any of them can be bound at its own offset. */
export const PLACEMENT_ALIGNMENT_BYTES = 256;

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
