/**
 * The parameters of a network in a few flat buffers ("shards"), so that the optimizer, the norms and the moving average
 * walk long ranges of memory instead of hundreds of small tensors. Gradients, moments and the teacher are stores of the
 * same layout, made with `like()`.
 *
 * Every parameter starts at a multiple of 128 elements, so that it can be bound by itself in float32 and in half
 * precision. The padding between them is zero and stays zero: the optimizer maps zeros to zeros, and nothing else writes
 * there.
 *
 * A store may have a half-precision copy of the same layout, which matrix products with half activations read
 * (`Tensor.half`). The optimizer writes it with the weights; every other way to set weights refreshes it.
 */

import * as halfCopy from '../../kernels/half_copy.js';
import { GpuError } from '../errors.js';
import { alignUp, PLACEMENT_ALIGNMENT_BYTES } from '../gpu/constants.js';
import type { Gpu } from '../gpu/device.js';
import { fromHalf } from '../gpu/half.js';
import { Program } from '../gpu/program.js';
import { elementBytes, type Storage, Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Where one parameter lies in its shard. */
export interface Segment {
  readonly name: string;
  /** Multiple of 128. */
  readonly offsetElements: number;
  readonly elements: number;
}

/** One flat buffer of parameters. */
export interface Shard {
  /** [elements of the whole buffer, padding included], in the store's element type; a multiple of 128. */
  readonly tensor: Tensor;
  /** In the order of their offsets. */
  readonly segments: readonly Segment[];
}

const ALIGNMENT_ELEMENTS = PLACEMENT_ALIGNMENT_BYTES / elementBytes('f16');

/** Parameters that follow one another are read back together up to this size. */
const READ_BYTES = 64 * 2 ** 20;

/** Memory that a store is given instead of making its own. */
interface Memory {
  /** One a shard. */
  readonly tensors: readonly Tensor[];
  /** Called once, when the store is disposed of. */
  release(): void;
}

export class ParameterStore {
  readonly shards: readonly Shard[];
  private readonly tensors = new Map<string, Tensor>();
  private readonly releaseMemory: () => void;
  private halves: ParameterStore | undefined;
  private halvesAreStale = false;
  private halfCopies: Promise<Program> | undefined;
  private disposed = false;

  /**
   * Lays out the parameters in the order given; all values are zero.
   * @param name shown in errors and labels, such as `student`
   * @throws GpuError for a name given twice, an empty shape, or a parameter larger than this adapter's buffers
   */
  constructor(gpu: Gpu, name: string, specs: readonly ParameterSpec[]);
  /** @internal A half-precision copy; see `makeHalf` and `pairHalf`. */
  constructor(gpu: Gpu, name: string, specs: readonly ParameterSpec[], dtype: 'f16', memory?: Memory);
  constructor(
    readonly gpu: Gpu,
    readonly name: string,
    private readonly specs: readonly ParameterSpec[],
    readonly dtype: Storage = 'f32',
    memory?: Memory,
  ) {
    const layout = layOut(gpu, name, specs);
    const shapes = new Map(specs.map((spec) => [spec.name, spec.shape]));
    this.shards = layout.map(({ elements, segments }, i) => {
      const tensor = memory?.tensors[i] ?? persistentTensor(gpu, `${name} shard ${i}`, [elements], dtype);
      for (const { name: parameter, offsetElements } of segments) {
        this.tensors.set(parameter, tensor.slice(offsetElements, shapes.get(parameter)!, parameter));
      }
      return { tensor, segments };
    });
    this.releaseMemory = () => {
      if (memory) memory.release();
      else for (const { tensor } of this.shards) gpu.destroyBuffer(tensor.place().buffer);
    };
  }

  /** The parameters' names, in the order they were given. */
  get names(): readonly string[] {
    return this.specs.map((spec) => spec.name);
  }

  /** Bytes of all values, padding and half copies included. */
  get sizeBytes(): number {
    return this.shards.reduce((sum, { tensor }) => sum + tensor.sizeBytes, this.halves?.sizeBytes ?? 0);
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

  /** A store of the same layout in float32, all zeros: gradients, moments, a teacher. */
  like(name: string): ParameterStore {
    return new ParameterStore(this.gpu, name, this.specs);
  }

  // --- Half copies ---------------------------------------------------------------------------------------------

  /** The half copy of this store, where it has one. */
  get half(): ParameterStore | undefined {
    return this.halves;
  }

  /**
   * Makes the half copy of this store (once; later calls return it) and sets `half` on every parameter. The copy belongs
   * to this store. It follows the weights from the first `refreshHalf()` on, which must come before it is read.
   */
  makeHalf(): ParameterStore {
    if (!this.halves) this.followWith(new ParameterStore(this.gpu, `${this.name} in halves`, this.specs, 'f16'));
    return this.halves!;
  }

  /**
   * `makeHalf` of two stores whose copies share one buffer a shard, f16 [2, elements], so that the optimizer writes both
   * through one binding.
   * @throws GpuError for different layouts, or where one has a half copy already
   */
  static pairHalf(first: ParameterStore, second: ParameterStore): void {
    first.assertSameLayout(second);
    for (const { name, halves } of [first, second]) {
      if (halves) throw new GpuError(`${name} has a half copy already; pair it before`);
    }
    const { gpu } = first;
    const pairs = first.shards.map(({ tensor }, i) =>
      persistentTensor(gpu, `${first.name} and ${second.name} in halves, shard ${i}`, [2, tensor.elements], 'f16'),
    );
    let users = 2;
    const release = (): void => {
      if (--users === 0) for (const pair of pairs) gpu.destroyBuffer(pair.place().buffer);
    };
    [first, second].forEach((store, k) => {
      const tensors = pairs.map((pair) => pair.slice((k * pair.elements) / 2, [pair.elements / 2]));
      const name = `${store.name} in halves`;
      store.followWith(new ParameterStore(gpu, name, store.specs, 'f16', { tensors, release }));
    });
  }

  private followWith(halves: ParameterStore): void {
    this.assertMaster();
    this.halves = halves;
    this.halvesAreStale = true;
    for (const [name, tensor] of this.tensors) tensor.half = halves.get(name);
  }

  /**
   * Brings the half copy up to date, after the work submitted so far; nothing to do without one. To be called after a
   * program other than the optimizer wrote the weights; `write`, `writeAll` and `copyFrom` call it themselves.
   */
  async refreshHalf(): Promise<void> {
    this.assertAlive();
    if (!this.halves) return;
    this.halfCopies ??= (async () => {
      const program = new Program(this.gpu, `half copy of ${this.name}`);
      recordHalfCopies({ program }, this);
      await program.compile();
      return program;
    })();
    (await this.halfCopies).run();
    this.halvesAreStale = false;
  }

  /** For whoever is about to read the half copies. @throws GpuError where weights were set and the copies not refreshed */
  assertHalfCurrent(): void {
    if (this.halvesAreStale) {
      throw new GpuError(`the half copy of ${this.name} is older than its weights: await refreshHalf() first`);
    }
  }

  // --- Use -----------------------------------------------------------------------------------------------------

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
    this.assertMaster();
    gradients.assertMaster();
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
    this.assertMaster();
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
    this.halvesAreStale = this.halves !== undefined;
    this.gpu.check();
    await this.refreshHalf();
  }

  /** Reads parameters back (all without `names`) as float32, in the order of the layout. Waits for all submitted work. */
  async readAll(names: readonly string[] = this.names): Promise<Map<string, Float32Array>> {
    this.assertAlive();
    const wanted = new Set(names);
    for (const name of wanted) this.get(name);
    const values = new Map<string, Float32Array>();
    for (const { tensor, segments } of this.shards) {
      const { buffer, offsetBytes } = tensor.place();
      for (const run of runs(segments, wanted)) {
        const first = run[0].offsetElements;
        const last = run[run.length - 1];
        const size = elementBytes(this.dtype);
        const bytes = await this.gpu.readBuffer(
          buffer,
          offsetBytes + size * first,
          alignUp(size * (last.offsetElements + last.elements - first), 4),
        );
        for (const { name, offsetElements, elements } of run) {
          const at = size * (offsetElements - first);
          values.set(
            name,
            this.dtype === 'f16'
              ? fromHalf(new Uint16Array(bytes, at, elements))
              : new Float32Array(bytes, at, elements).slice(),
          );
        }
      }
    }
    return values;
  }

  /** Copies all values of a store of the same layout, on the GPU, after the work submitted so far. Does not wait for it. */
  async copyFrom(other: ParameterStore): Promise<void> {
    this.assertAlive();
    this.assertMaster();
    other.assertMaster();
    this.assertSameLayout(other);
    const { device } = this.gpu;
    const encoder = device.createCommandEncoder({ label: `${other.name} to ${this.name}` });
    this.shards.forEach(({ tensor }, i) => {
      encoder.copyBufferToBuffer(other.shards[i].tensor.place().buffer, 0, tensor.place().buffer, 0, tensor.sizeBytes);
    });
    device.queue.submit([encoder.finish()]);
    this.halvesAreStale = this.halves !== undefined;
    await this.refreshHalf();
  }

  /** Half copies have no values of their own to set and no gradients. */
  private assertMaster(): void {
    if (this.dtype === 'f16') throw new GpuError(`${this.name} only follows its store: use that one`);
  }

  private assertAlive(): void {
    if (this.disposed) throw new GpuError(`${this.name} is disposed; its values are gone`);
  }

  /** Frees the buffers, those of the half copy too. Programs that use these parameters must not run afterwards. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.releaseMemory();
    this.halves?.dispose();
  }
}

/**
 * Records half copy ← weights for a whole store, one dispatch a shard.
 * @throws GpuError for a store without a half copy
 */
export function recordHalfCopies({ program }: Pick<Graph, 'program'>, store: ParameterStore): void {
  const { half } = store;
  if (!half) throw new GpuError(`${store.name} has no half copy: call makeHalf() first`);
  store.shards.forEach(({ tensor }, s) => {
    program.dispatch(halfCopy.plan({ elements: tensor.elements }), [tensor, half.shards[s].tensor]);
  });
}

interface ShardLayout {
  elements: number;
  readonly segments: Segment[];
}

/**
 * Places parameters one after the other, in as few shards as a float32 binding allows: half copies, and pairs of them, then
 * fit too.
 */
function layOut({ capabilities }: Gpu, name: string, specs: readonly ParameterSpec[]): ShardLayout[] {
  const { maxBufferSizeBytes, maxBindingSizeBytes } = capabilities;
  const limitBytes = Math.min(maxBufferSizeBytes, maxBindingSizeBytes);
  const limitElements = Math.floor(limitBytes / 4 / ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS;
  const layout: ShardLayout[] = [];
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
  return layout;
}

/** A persistent tensor with a buffer of its own, all zeros. */
export function persistentTensor(gpu: Gpu, label: string, shape: readonly number[], dtype: Storage): Tensor {
  const tensor = new Tensor(label, shape, dtype, 'persistent');
  tensor.placement = { buffer: gpu.storageBuffer(tensor.sizeBytes, label), offsetBytes: 0 };
  return tensor;
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
