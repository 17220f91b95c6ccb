/**
 * The parameters of a network in a few flat buffers ("shards"), so that the optimizer, the norms and the moving average
 * walk long ranges of memory instead of hundreds of small tensors. Gradients, moments and the teacher are stores of the
 * same layout, made with `like()`.
 *
 * Every parameter starts at a multiple of 256 bytes. The padding between them is zero and stays zero: the optimizer
 * maps zeros to zeros, and nothing else writes there.
 */

import { GpuError } from '../errors.js';
import { alignUp, PLACEMENT_ALIGNMENT_BYTES } from '../gpu/constants.js';
import type { Gpu } from '../gpu/device.js';
import { Tensor } from '../gpu/tensor.js';

export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Where one parameter lies in its shard. */
export interface Segment {
  readonly name: string;
  /** Multiple of 64. */
  readonly offsetElements: number;
  readonly elements: number;
}

/** One flat buffer of parameters. */
export interface Shard {
  /** f32 [elements of the whole buffer, padding included]. */
  readonly tensor: Tensor;
  /** In the order of their offsets. */
  readonly segments: readonly Segment[];
}

const ALIGNMENT_ELEMENTS = PLACEMENT_ALIGNMENT_BYTES / 4;

/** Parameters that follow one another are read back together up to this size. */
const READ_BYTES = 64 * 2 ** 20;

export class ParameterStore {
  readonly shards: readonly Shard[];
  private readonly tensors = new Map<string, Tensor>();
  private disposed = false;

  /**
   * Lays out the parameters in the order given; all values are zero.
   * @param name shown in errors and labels, such as `student`
   * @throws GpuError for a name given twice, an empty shape, or a parameter larger than this adapter's buffers
   */
  constructor(
    readonly gpu: Gpu,
    readonly name: string,
    private readonly specs: readonly ParameterSpec[],
  ) {
    const { maxBufferSizeBytes, maxBindingSizeBytes } = gpu.capabilities;
    const limitBytes = Math.min(maxBufferSizeBytes, maxBindingSizeBytes);
    const limitElements = Math.floor(limitBytes / PLACEMENT_ALIGNMENT_BYTES) * ALIGNMENT_ELEMENTS;
    const layout: { elements: number; segments: Segment[] }[] = [];
    const known = new Set<string>();
    for (const { name: parameter, shape } of specs) {
      const elements = shape.reduce((a, b) => a * b, 1);
      if (known.has(parameter)) throw new GpuError(`${name} has two parameters named ${parameter}; rename one`);
      if (!(elements >= 1)) throw new GpuError(`${name}: ${parameter} [${shape}] has no elements; leave it out`);
      if (elements > limitElements) {
        const limit = maxBindingSizeBytes <= maxBufferSizeBytes ? 'maxStorageBufferBindingSize' : 'maxBufferSize';
        throw new GpuError(
          `${name}: ${parameter} [${shape}] has ${elements * 4} bytes; this adapter's ${limit} is ${limitBytes}: ` +
            'use fewer prototypes or a smaller model',
        );
      }
      known.add(parameter);
      let shard = layout.at(-1);
      if (!shard || shard.elements + elements > limitElements) {
        shard = { elements: 0, segments: [] };
        layout.push(shard);
      }
      shard.segments.push({ name: parameter, offsetElements: shard.elements, elements });
      shard.elements = alignUp(shard.elements + elements, ALIGNMENT_ELEMENTS);
    }
    const shapes = new Map(specs.map((spec) => [spec.name, spec.shape]));
    this.shards = layout.map(({ elements, segments }, i) => {
      const label = `${name} shard ${i}`;
      const tensor = new Tensor(label, [elements], 'f32', 'persistent');
      tensor.placement = { buffer: gpu.storageBuffer(4 * elements, label), offsetBytes: 0 };
      for (const { name: parameter, offsetElements } of segments) {
        this.tensors.set(parameter, tensor.slice(offsetElements, shapes.get(parameter)!, parameter));
      }
      return { tensor, segments };
    });
  }

  /** The parameters' names, in the order they were given. */
  get names(): readonly string[] {
    return this.specs.map((spec) => spec.name);
  }

  /** Bytes of all buffers, padding included. */
  get sizeBytes(): number {
    return this.shards.reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0);
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** The parameter as a persistent tensor, always the same object. @throws GpuError for an unknown name */
  get(name: string): Tensor {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new GpuError(`${this.name} has no parameter ${name}`);
    return tensor;
  }

  /** A store of the same layout, all zeros: gradients, moments, a teacher. */
  like(name: string): ParameterStore {
    return new ParameterStore(this.gpu, name, this.specs);
  }

  /** @throws GpuError unless `other` holds the same parameters at the same places */
  assertSameLayout(other: ParameterStore): void {
    const differs = (a: Segment | undefined, b: Segment | undefined): boolean =>
      a?.name !== b?.name || a?.offsetElements !== b?.offsetElements || a?.elements !== b?.elements;
    if (other === this) return;
    const same =
      this.shards.length === other.shards.length &&
      this.shards.every(({ segments }, i) => {
        const others = other.shards[i].segments;
        return segments.length === others.length && !segments.some((segment, j) => differs(segment, others[j]));
      });
    if (!same)
      throw new GpuError(`${this.name} and ${other.name} are laid out differently: make one with like() of the other`);
  }

  /** Makes every parameter trainable: the tape follows it and writes its gradient into the tensor of the same name. */
  trainable(gradients: ParameterStore): void {
    this.assertSameLayout(gradients);
    for (const [name, tensor] of this.tensors) {
      tensor.requiresGrad = true;
      tensor.gradient = gradients.get(name);
    }
  }

  /** Sets one parameter. @param data row-major, exactly its elements. @throws GpuError for an unknown name or another length */
  async write(name: string, data: Float32Array): Promise<void> {
    await this.writeAll(new Map([[name, data]]));
  }

  /** Sets the parameters named in `values` and leaves the others. All names and lengths are tested before the first write. */
  async writeAll(values: ReadonlyMap<string, Float32Array>): Promise<void> {
    this.assertAlive();
    for (const [name, data] of values) {
      const tensor = this.get(name);
      if (data.length !== tensor.elements) {
        throw new GpuError(
          `${this.name}: ${name} [${tensor.shape}] takes ${tensor.elements} values, not ${data.length}`,
        );
      }
    }
    for (const [name, data] of values) {
      const { buffer, offsetBytes } = this.get(name).place();
      const { queue } = this.gpu.device;
      queue.writeBuffer(buffer, offsetBytes, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    }
    this.gpu.check();
  }

  /** Reads parameters back (all without `names`), in the order of the layout. Waits for all submitted work. */
  async readAll(names: readonly string[] = this.names): Promise<Map<string, Float32Array>> {
    this.assertAlive();
    const wanted = new Set(names);
    for (const name of wanted) this.get(name);
    const values = new Map<string, Float32Array>();
    for (const { tensor, segments } of this.shards) {
      const { buffer } = tensor.place();
      for (const run of runs(segments, wanted)) {
        const first = run[0].offsetElements;
        const last = run[run.length - 1];
        const bytes = await this.gpu.readBuffer(buffer, 4 * first, 4 * (last.offsetElements + last.elements - first));
        for (const { name, offsetElements, elements } of run) {
          values.set(name, new Float32Array(bytes, 4 * (offsetElements - first), elements).slice());
        }
      }
    }
    return values;
  }

  /** Copies all values of a store of the same layout, on the GPU, after the work submitted so far. */
  copyFrom(other: ParameterStore): void {
    this.assertAlive();
    this.assertSameLayout(other);
    const { device } = this.gpu;
    const encoder = device.createCommandEncoder({ label: `${other.name} to ${this.name}` });
    this.shards.forEach(({ tensor }, i) => {
      encoder.copyBufferToBuffer(other.shards[i].tensor.place().buffer, 0, tensor.place().buffer, 0, tensor.sizeBytes);
    });
    device.queue.submit([encoder.finish()]);
  }

  private assertAlive(): void {
    if (this.disposed) throw new GpuError(`${this.name} is disposed; its values are gone`);
  }

  /** Frees the buffers. Programs that use these parameters must not run afterwards. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    for (const { tensor } of this.shards) this.gpu.destroyBuffer(tensor.place().buffer);
  }
}

/** The wanted segments, neighbours together, up to READ_BYTES a run unless one alone is larger. */
function runs(segments: readonly Segment[], wanted: ReadonlySet<string>): Segment[][] {
  const result: Segment[][] = [];
  let open = false;
  for (const segment of segments) {
    if (!wanted.has(segment.name)) {
      open = false;
      continue;
    }
    const run = result.at(-1);
    if (open && run && 4 * (segment.offsetElements + segment.elements - run[0].offsetElements) <= READ_BYTES)
      run.push(segment);
    else result.push([segment]);
    open = true;
  }
  return result;
}
