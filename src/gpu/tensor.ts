/** A tensor is a shape, an element type and, once placed, a range of a GPU buffer. It never holds data on the CPU. */

import { alignUp, PLACEMENT_ALIGNMENT_BYTES } from './constants.js';
import { GpuError } from '../errors.js';

/** Element types that arithmetic runs on. `f16` is storage: four neighbours in two words (see kernels/storage.ts). */
export type Storage = 'f32' | 'f16';
export type DType = Storage | 'u32';
/** What the CPU sees of a tensor; the values of an f16 one are converted on the way. */
export type TypedData = Float32Array | Uint32Array;

export function elementBytes(dtype: DType): number {
  return dtype === 'f16' ? 2 : 4;
}

export interface Placement {
  readonly buffer: GPUBuffer;
  /** Multiple of 256. */
  readonly offsetBytes: number;
}

let nextId = 0;

/**
 * `persistent` tensors live as long as their owner (weights, optimizer state, pixels); `intermediate` ones are placed by
 * the planner of the program that made them and hold a value only between their first and last dispatch.
 */
export class Tensor {
  readonly id = nextId++;
  readonly elements: number;
  placement: Placement | undefined;
  /** For a view: the tensor whose memory it shares, and where in it. */
  readonly base: Tensor;
  readonly baseOffsetBytes: number;
  /** Whether the tape follows this tensor. Set on weights by their owner, on results by the operators. */
  requiresGrad = false;
  /** For a weight: where its gradient is kept. */
  gradient: Tensor | undefined;
  /** Element type of its gradient: its own, but f32 for a weight made on the way (a normalised last layer). */
  gradientDtype: DType;
  /** For a weight: its copy in half precision, which matrix products with half activations read. */
  half: Tensor | undefined;
  /** Records the dispatch that makes this value again, for a backward pass that would otherwise keep it alive. */
  recompute: (() => Tensor) | undefined;

  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    readonly dtype: DType,
    readonly kind: 'persistent' | 'intermediate',
    view?: { base: Tensor; offsetBytes: number },
  ) {
    this.elements = shape.reduce((a, b) => a * b, 1);
    this.gradientDtype = dtype;
    this.base = view ? view.base : this;
    this.baseOffsetBytes = view ? view.offsetBytes : 0;
  }

  get sizeBytes(): number {
    return alignUp(this.elements * elementBytes(this.dtype), 4);
  }

  /** Product of all dimensions but the last: a tensor seen as a matrix has `rows × columns`. */
  get rows(): number {
    return this.elements / this.columns;
  }

  get columns(): number {
    return this.shape[this.shape.length - 1] ?? 1;
  }

  /** The same elements under another shape. */
  reshape(shape: readonly number[]): Tensor {
    const view = new Tensor(this.name, shape, this.dtype, this.kind, {
      base: this.base,
      offsetBytes: this.baseOffsetBytes,
    });
    if (view.elements !== this.elements) {
      throw new GpuError(
        `${this.name}: cannot see [${this.shape}] as [${shape}]: ${this.elements} elements against ${view.elements}`,
      );
    }
    view.requiresGrad = this.requiresGrad;
    view.gradient = this.gradient;
    view.gradientDtype = this.gradientDtype;
    view.half = this.half?.reshape(shape);
    const { recompute } = this;
    view.recompute = recompute && (() => recompute().reshape(shape));
    return view;
  }

  /** A range of elements as a tensor of its own; it must begin at a multiple of 256 bytes (64 elements of f32, 128 of f16). */
  slice(offsetElements: number, shape: readonly number[], name = this.name): Tensor {
    const offsetBytes = this.baseOffsetBytes + offsetElements * elementBytes(this.dtype);
    const view = new Tensor(name, shape, this.dtype, this.kind, { base: this.base, offsetBytes });
    if (offsetBytes % PLACEMENT_ALIGNMENT_BYTES !== 0 || offsetElements + view.elements > this.elements) {
      throw new GpuError(`${this.name}: no slice of [${shape}] at element ${offsetElements} of [${this.shape}]`);
    }
    return view;
  }

  /** Where the tensor lies now. Throws for an intermediate of a program that is not compiled. */
  place(): Placement {
    const at = this.base.placement;
    if (!at) throw new GpuError(`${this.name} has no memory yet: compile its program first`);
    return { buffer: at.buffer, offsetBytes: at.offsetBytes + this.baseOffsetBytes };
  }

  /** The element type as storage; an integer tensor has none. */
  get storage(): Storage {
    if (this.dtype === 'u32') throw new GpuError(`${this.name} holds integers where activations are wanted`);
    return this.dtype;
  }

  get paddedBytes(): number {
    return alignUp(Math.max(this.sizeBytes, 4), PLACEMENT_ALIGNMENT_BYTES);
  }
}
