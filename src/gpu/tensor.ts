/** A tensor is a shape, an element type and, once placed, a range of a GPU buffer. It never holds data on the CPU. */

import { alignUp, PLACEMENT_ALIGNMENT_BYTES } from './constants.js';
import { GpuError } from '../errors.js';

export type DType = 'f32' | 'u32';
export type TypedData = Float32Array | Uint32Array;

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

  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    readonly dtype: DType,
    readonly kind: 'persistent' | 'intermediate',
    view?: { base: Tensor; offsetBytes: number },
  ) {
    this.elements = shape.reduce((a, b) => a * b, 1);
    this.base = view ? view.base : this;
    this.baseOffsetBytes = view ? view.offsetBytes : 0;
  }

  get sizeBytes(): number {
    return this.elements * 4;
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
    return view;
  }

  /** A range of elements as a tensor of its own; `offsetElements` must fall on a multiple of 64 (256 bytes). */
  slice(offsetElements: number, shape: readonly number[], name = this.name): Tensor {
    const offsetBytes = this.baseOffsetBytes + offsetElements * 4;
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

  get paddedBytes(): number {
    return alignUp(Math.max(this.sizeBytes, 4), PLACEMENT_ALIGNMENT_BYTES);
  }
}
