/**
 * A recorded program: a list of dispatches over tensors, planned once and replayed each step.
 *
 * Model code runs once and records. `compile()` places every intermediate by its lifetime, compiles the kernels in
 * parallel and makes the bind groups. `run()` writes the inputs that changed and encodes the list again: nothing is
 * allocated, nothing waits for the GPU. Whatever changes from step to step is an input, never a recorded constant.
 */

import { GpuError } from '../errors.js';
import { planArenas } from './arena.js';
import { alignUp, BufferUsage, MapMode, PLACEMENT_ALIGNMENT_BYTES } from './constants.js';
import type { Gpu } from './device.js';
import type { KernelPlan } from './kernel_plan.js';
import { kernelName, type Pipeline } from './pipelines.js';
import { fromHalf, toHalf } from './half.js';
import { type DType, Tensor, type TypedData } from './tensor.js';

interface Dispatch {
  readonly plan: KernelPlan;
  readonly tensors: readonly Tensor[];
  /** What the dispatch is for, such as `blocks.3.attn`; shown in traces beside the kernel. */
  readonly scope: string;
}

/** Inputs up to this size share one buffer and one write a step; larger ones (pixels) get a buffer each. */
const SHARED_INPUT_BYTES = 1 << 20;

/** Dispatches per submit: the GPU starts on the first ones while the rest are being encoded. */
const DISPATCHES_PER_SUBMIT = 128;

/** The pattern that `guard` fills memory with: a NaN, so that a read of unwritten memory poisons the result. */
const GUARD_WORD = 0x7fc0dead;

export interface CompileOptions {
  /**
   * Test mode: 256 guard bytes after every intermediate and NaN bits in all of them before each run; `checkGuards()`
   * then finds writes past a tensor's end, and results turn NaN where a kernel reads what nothing wrote.
   */
  readonly guard?: boolean;
}

export interface ProgramCost {
  dispatches: number;
  flops: number;
  bytes: number;
  /** Memory of the intermediates after lifetime sharing, and what they would take without. */
  arenaBytes: number;
  unsharedBytes: number;
  inputBytes: number;
  constantBytes: number;
}

export interface TraceEntry {
  readonly kernel: string;
  readonly scope: string;
  readonly timeMs: number;
  readonly flops: number;
  readonly bytes: number;
}

export class Program {
  private readonly dispatches: Dispatch[] = [];
  private readonly inputs: { tensor: Tensor; mirror: Uint32Array; dirty: boolean }[] = [];
  private readonly inputByName = new Map<string, number>();
  private readonly constants: { tensor: Tensor; data: TypedData }[] = [];
  private readonly parameters = new Map<string, Tensor>();
  private readonly kept = new Set<Tensor>();
  private readonly buffers: GPUBuffer[] = [];
  private arenas: GPUBuffer[] = [];
  private guards: { arena: number; offsetBytes: number; name: string }[] = [];
  private pipelines: Pipeline[] = [];
  private bindGroups: GPUBindGroup[] = [];
  private sharedInputs: { buffer: GPUBuffer; mirror: Uint32Array } | undefined;
  private scopes: string[] = [];
  private compiled = false;
  private guarded = false;
  private unsharedBytes = 0;

  constructor(
    readonly gpu: Gpu,
    readonly name: string,
  ) {}

  // --- Recording -----------------------------------------------------------------------------------------------

  /** Runs `body` with `name` on the scope path of every dispatch it records. */
  scope<T>(name: string, body: () => T): T {
    this.scopes.push(name);
    try {
      return body();
    } finally {
      this.scopes.pop();
    }
  }

  get scopePath(): string {
    return this.scopes.join('.');
  }

  /** A tensor written by the CPU before a run, through `write()`. Starts as zeros. */
  input(name: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    this.assertRecording();
    if (this.inputByName.has(name)) throw new GpuError(`${this.name} already has an input ${name}`);
    const tensor = new Tensor(name, shape, dtype, 'persistent');
    this.inputByName.set(name, this.inputs.length);
    this.inputs.push({ tensor, mirror: new Uint32Array(tensor.sizeBytes / 4), dirty: true });
    return tensor;
  }

  /** A tensor whose values are part of the program: tables of sequences, interpolation weights. Never a per-step value. */
  constant(name: string, shape: readonly number[], data: TypedData): Tensor {
    this.assertRecording();
    const tensor = new Tensor(name, shape, data instanceof Float32Array ? 'f32' : 'u32', 'persistent');
    if (data.length !== tensor.elements) throw new GpuError(`${name}: ${data.length} values for the shape [${shape}]`);
    this.constants.push({ tensor, data });
    return tensor;
  }

  /** A tensor that some dispatch of this program writes before others read it. */
  intermediate(name: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const path = this.scopePath;
    return new Tensor(path ? `${path}.${name}` : name, shape, dtype, 'intermediate');
  }

  /** Keeps an intermediate until the end of the run, so that it can be read. Returns it. */
  keep(tensor: Tensor): Tensor {
    this.kept.add(tensor.base);
    return tensor;
  }

  /** Appends one kernel. `tensors` are bound in the order of `plan.bindings`. */
  dispatch(plan: KernelPlan, tensors: readonly Tensor[]): void {
    this.assertRecording();
    const kernel = kernelName(plan);
    if (tensors.length !== plan.bindings.length) {
      throw new GpuError(`${kernel}: ${tensors.length} tensors for ${plan.bindings.length} bindings`);
    }
    const buffers = tensors.length + (plan.parameters ? 1 : 0);
    if (buffers > this.gpu.capabilities.maxStorageBuffersPerStage) {
      throw new GpuError(
        `${kernel} binds ${buffers} buffers; this adapter allows ${this.gpu.capabilities.maxStorageBuffersPerStage}`,
      );
    }
    const limit = this.gpu.capabilities.maxBindingSizeBytes;
    for (const tensor of tensors) {
      if (tensor.sizeBytes > limit) {
        throw new GpuError(
          `${tensor.name} [${tensor.shape}] has ${tensor.sizeBytes} bytes; this adapter's maxStorageBufferBindingSize is ` +
            `${limit}: use a smaller batch or fewer prototypes`,
        );
      }
    }
    for (const size of plan.grid) {
      if (size < 1 || size > this.gpu.capabilities.maxWorkgroupsPerDimension) {
        throw new GpuError(
          `${kernel}: a grid of [${plan.grid}] workgroups; this adapter allows 1 to ${this.gpu.capabilities.maxWorkgroupsPerDimension}`,
        );
      }
    }
    this.dispatches.push(this.withParameters({ plan, tensors, scope: this.scopePath }));
  }

  /** Binds the plan's parameters behind its tensors; dispatches with the same ones share the constant. */
  private withParameters(dispatch: Dispatch): Dispatch {
    const { parameters, bindings } = dispatch.plan;
    if (!parameters) return dispatch;
    const key = parameters.join(' ');
    let tensor = this.parameters.get(key);
    if (!tensor) {
      tensor = this.constant('parameters', [parameters.length], Uint32Array.from(parameters));
      this.parameters.set(key, tensor);
    }
    const plan: KernelPlan = { ...dispatch.plan, bindings: [...bindings, 'read'] };
    return { ...dispatch, plan, tensors: [...dispatch.tensors, tensor] };
  }

  private assertRecording(): void {
    if (this.compiled) throw new GpuError(`${this.name} is compiled; record into a new program`);
  }

  // --- Compiling -----------------------------------------------------------------------------------------------

  /** Places the intermediates, compiles the kernels, uploads the constants. Throws GpuError naming kernel and cause. */
  async compile(options: CompileOptions = {}): Promise<void> {
    this.assertRecording();
    this.compiled = true;
    this.guarded = options.guard === true;
    this.placeIntermediates();
    this.placeInputsAndConstants();
    if (this.gpu.dry) return;
    this.pipelines = await Promise.all(this.dispatches.map((d) => this.gpu.pipelines.get(d.plan)));
    this.gpu.device.pushErrorScope('validation');
    this.bindGroups = this.dispatches.map(({ plan, tensors, scope }, i) =>
      this.gpu.device.createBindGroup({
        label: scope ? `${kernelName(plan)} of ${scope}` : kernelName(plan),
        layout: this.pipelines[i].layout,
        entries: tensors.map((tensor, binding) => {
          const { buffer, offsetBytes } = tensor.place();
          return { binding, resource: { buffer, offset: offsetBytes, size: Math.max(tensor.sizeBytes, 4) } };
        }),
      }),
    );
    const error = await this.gpu.device.popErrorScope();
    if (error) throw new GpuError(`${this.name}: a binding is refused: ${error.message}`);
    this.gpu.check();
  }

  private placeIntermediates(): void {
    const index = new Map<Tensor, number>();
    const items: { name: string; sizeBytes: number; first: number; last: number }[] = [];
    const conflicts: Set<number>[] = [];
    const end = this.dispatches.length;
    // A guard must stay untouched for the whole run, so guarded programs share no memory.
    const lifetime = (d: number, keep: boolean): { first: number; last: number } =>
      this.guarded ? { first: 0, last: end } : { first: d, last: keep ? end : d };
    const guardBytes = this.guarded ? PLACEMENT_ALIGNMENT_BYTES : 0;
    this.dispatches.forEach(({ plan, tensors, scope }, d) => {
      const reads: number[] = [];
      const writes: number[] = [];
      tensors.forEach((tensor, binding) => {
        const base = tensor.base;
        if (base.kind !== 'intermediate') return;
        let i = index.get(base);
        if (i === undefined) {
          if (plan.bindings[binding] === 'read') {
            throw new GpuError(`${kernelName(plan)} (${scope}) reads ${tensor.name}, which nothing has written`);
          }
          i = items.length;
          index.set(base, i);
          items.push({
            name: base.name,
            sizeBytes: base.paddedBytes + guardBytes,
            ...lifetime(d, this.kept.has(base)),
          });
          conflicts.push(new Set());
        }
        items[i].last = Math.max(items[i].last, d);
        (plan.bindings[binding] === 'read' ? reads : writes).push(i);
      });
      for (const w of writes) {
        for (const r of reads) {
          if (r === w) throw new GpuError(`${kernelName(plan)} (${scope}) binds ${items[r].name} to read and to write`);
          conflicts[w].add(r);
          conflicts[r].add(w);
        }
      }
    });
    const { places, arenaBytes } = planArenas(items, conflicts, this.gpu.capabilities.maxBufferSizeBytes);
    this.arenas = arenaBytes.map((size, i) => this.own(this.gpu.storageBuffer(size, `${this.name} arena ${i}`)));
    for (const [tensor, i] of index) {
      const { arena, offsetBytes } = places[i];
      tensor.placement = { buffer: this.arenas[arena], offsetBytes };
      this.unsharedBytes += items[i].sizeBytes;
      if (this.guarded) this.guards.push({ arena, offsetBytes: offsetBytes + tensor.paddedBytes, name: tensor.name });
    }
    for (const tensor of this.kept) {
      if (tensor.kind === 'intermediate' && !tensor.placement)
        throw new GpuError(`${tensor.name} is kept but never written`);
    }
  }

  private placeInputsAndConstants(): void {
    const layOut = (tensors: Tensor[]): number => {
      let offset = 0;
      for (const tensor of tensors) offset = alignUp(offset, PLACEMENT_ALIGNMENT_BYTES) + tensor.paddedBytes;
      return offset;
    };
    const small = this.inputs.filter(({ tensor }) => tensor.sizeBytes <= SHARED_INPUT_BYTES);
    if (small.length > 0) {
      const size = layOut(small.map(({ tensor }) => tensor));
      const buffer = this.own(this.gpu.storageBuffer(size, `${this.name} inputs`));
      const mirror = new Uint32Array(size / 4);
      let offset = 0;
      for (const input of small) {
        input.tensor.placement = { buffer, offsetBytes: offset };
        const view = mirror.subarray(offset / 4, (offset + input.tensor.sizeBytes) / 4);
        view.set(input.mirror);
        input.mirror = view;
        offset += input.tensor.paddedBytes;
      }
      this.sharedInputs = { buffer, mirror };
    }
    for (const input of this.inputs) {
      if (input.tensor.placement) continue;
      const buffer = this.own(
        this.gpu.storageBuffer(input.tensor.sizeBytes, `${this.name} input ${input.tensor.name}`),
      );
      input.tensor.placement = { buffer, offsetBytes: 0 };
    }
    if (this.constants.length > 0) {
      const buffer = this.own(
        this.gpu.storageBuffer(layOut(this.constants.map((c) => c.tensor)), `${this.name} constants`),
      );
      let offset = 0;
      for (const { tensor, data } of this.constants) {
        tensor.placement = { buffer, offsetBytes: offset };
        this.gpu.device.queue.writeBuffer(buffer, offset, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
        offset += tensor.paddedBytes;
      }
    }
  }

  private own(buffer: GPUBuffer): GPUBuffer {
    this.buffers.push(buffer);
    return buffer;
  }

  // --- Running -------------------------------------------------------------------------------------------------

  /** Sets an input for the next runs. `data` holds exactly the input's elements, in its element type (float32 for f16). */
  write(input: Tensor | string, values: TypedData | Uint8Array): void {
    const index = this.inputByName.get(typeof input === 'string' ? input : input.name);
    if (index === undefined)
      throw new GpuError(`${this.name} has no input ${typeof input === 'string' ? input : input.name}`);
    const entry = this.inputs[index];
    const data = entry.tensor.dtype === 'f16' && values instanceof Float32Array ? toHalf(values) : values;
    if (data.byteLength !== entry.tensor.sizeBytes) {
      throw new GpuError(
        `${entry.tensor.name} [${entry.tensor.shape}] takes ${entry.tensor.sizeBytes} bytes, not ${data.byteLength}`,
      );
    }
    new Uint8Array(entry.mirror.buffer, entry.mirror.byteOffset, data.byteLength).set(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    );
    entry.dirty = true;
  }

  private uploadInputs(): void {
    const queue = this.gpu.device.queue;
    if (this.sharedInputs && this.inputs.some((i) => i.dirty && i.tensor.sizeBytes <= SHARED_INPUT_BYTES)) {
      queue.writeBuffer(this.sharedInputs.buffer, 0, this.sharedInputs.mirror.buffer as ArrayBuffer);
    }
    for (const input of this.inputs) {
      if (input.dirty && input.tensor.sizeBytes > SHARED_INPUT_BYTES) {
        const { buffer, offsetBytes } = input.tensor.place();
        queue.writeBuffer(
          buffer,
          offsetBytes,
          input.mirror.buffer as ArrayBuffer,
          input.mirror.byteOffset,
          input.mirror.byteLength,
        );
      }
      input.dirty = false;
    }
  }

  /** Encodes and submits the whole list once. Returns as soon as it is queued. */
  run(): void {
    this.assertCompiled();
    if (this.gpu.dry) throw new GpuError(`${this.name} was planned on a dry GPU, which cannot run it`);
    this.gpu.check();
    this.uploadInputs();
    if (this.guarded) this.poison();
    const { device } = this.gpu;
    for (let from = 0; from < this.dispatches.length; from += DISPATCHES_PER_SUBMIT) {
      const encoder = device.createCommandEncoder({ label: this.name });
      const pass = encoder.beginComputePass({ label: this.name });
      const to = Math.min(from + DISPATCHES_PER_SUBMIT, this.dispatches.length);
      for (let i = from; i < to; i++) this.encode(pass, i);
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
  }

  private encode(pass: GPUComputePassEncoder, i: number): void {
    const { grid } = this.dispatches[i].plan;
    pass.setPipeline(this.pipelines[i].pipeline);
    pass.setBindGroup(0, this.bindGroups[i]);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
  }

  /** Runs once with a timestamp around every dispatch. Needs the feature `timestamp-query`. */
  async trace(): Promise<TraceEntry[]> {
    this.assertCompiled();
    if (!this.gpu.capabilities.timestampQuery) {
      throw new GpuError('this adapter has no timestamp-query: kernels cannot be timed one by one');
    }
    const { device } = this.gpu;
    this.uploadInputs();
    const chunk = 1024;
    const entries: TraceEntry[] = [];
    for (let from = 0; from < this.dispatches.length; from += chunk) {
      const count = Math.min(chunk, this.dispatches.length - from);
      const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * count });
      const resolved = this.gpu.createBuffer(
        16 * count,
        BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
        'timestamps',
      );
      const encoder = device.createCommandEncoder({ label: `${this.name} traced` });
      for (let i = 0; i < count; i++) {
        const pass = encoder.beginComputePass({
          timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
        });
        this.encode(pass, from + i);
        pass.end();
      }
      encoder.resolveQuerySet(querySet, 0, 2 * count, resolved, 0);
      device.queue.submit([encoder.finish()]);
      const ticks = new BigUint64Array(await this.gpu.readBuffer(resolved, 0, 16 * count));
      for (let i = 0; i < count; i++) {
        const { plan, scope } = this.dispatches[from + i];
        const timeMs = Number(ticks[2 * i + 1] - ticks[2 * i]) / 1e6;
        entries.push({ kernel: kernelName(plan), scope, timeMs, flops: plan.flops, bytes: plan.bytes });
      }
      querySet.destroy();
      this.gpu.destroyBuffer(resolved);
    }
    return entries;
  }

  /** Reads a tensor back: waits for all submitted work. Kept intermediates and persistent tensors only. */
  async read(tensor: Tensor): Promise<TypedData> {
    const [data] = await this.readAll([tensor]);
    return data;
  }

  /** Reads several tensors with one copy and one wait. */
  async readAll(tensors: readonly Tensor[]): Promise<TypedData[]> {
    this.assertCompiled();
    this.gpu.check();
    for (const tensor of tensors) {
      if (tensor.base.kind === 'intermediate' && !this.kept.has(tensor.base)) {
        throw new GpuError(`${tensor.name} is not kept: its memory may hold something else by now`);
      }
    }
    const offsets: number[] = [];
    let size = 0;
    for (const tensor of tensors) {
      offsets.push(size);
      size += alignUp(Math.max(tensor.sizeBytes, 4), 8);
    }
    const { device } = this.gpu;
    const staging = this.gpu.createBuffer(size, BufferUsage.MAP_READ | BufferUsage.COPY_DST, `${this.name} read-back`);
    try {
      const encoder = device.createCommandEncoder({ label: staging.label });
      tensors.forEach((tensor, i) => {
        const { buffer, offsetBytes } = tensor.place();
        if (tensor.sizeBytes > 0)
          encoder.copyBufferToBuffer(buffer, offsetBytes, staging, offsets[i], tensor.sizeBytes);
      });
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(MapMode.READ);
      const bytes = staging.getMappedRange().slice(0);
      this.gpu.check();
      return tensors.map(({ dtype, elements }, i) => {
        if (dtype === 'f16') return fromHalf(new Uint16Array(bytes, offsets[i], elements));
        return dtype === 'f32'
          ? new Float32Array(bytes, offsets[i], elements)
          : new Uint32Array(bytes, offsets[i], elements);
      });
    } catch (cause) {
      this.gpu.check();
      throw new GpuError(`${this.name}: reading back failed: ${(cause as Error).message}`, { cause });
    } finally {
      this.gpu.destroyBuffer(staging);
    }
  }

  private assertCompiled(): void {
    if (!this.compiled) throw new GpuError(`${this.name} is not compiled`);
  }

  private poison(): void {
    for (const arena of this.arenas) {
      const words = new Uint32Array(arena.size / 4).fill(GUARD_WORD);
      this.gpu.device.queue.writeBuffer(arena, 0, words);
    }
  }

  /** After a guarded run: the names of the tensors past whose end something was written. */
  async checkGuards(): Promise<string[]> {
    if (!this.guarded) throw new GpuError(`${this.name} was compiled without guards`);
    const contents = await Promise.all(this.arenas.map((a) => this.gpu.readBuffer(a, 0, a.size)));
    return this.guards
      .filter(({ arena, offsetBytes }) =>
        new Uint32Array(contents[arena], offsetBytes, PLACEMENT_ALIGNMENT_BYTES / 4).some(
          (word) => word !== GUARD_WORD,
        ),
      )
      .map(({ name }) => name);
  }

  get cost(): ProgramCost {
    const sum = (value: (d: Dispatch) => number): number => this.dispatches.reduce((a, d) => a + value(d), 0);
    return {
      dispatches: this.dispatches.length,
      flops: sum((d) => d.plan.flops),
      bytes: sum((d) => d.plan.bytes),
      arenaBytes: this.arenas.reduce((a, b) => a + b.size, 0),
      unsharedBytes: this.unsharedBytes,
      inputBytes: this.inputs.reduce((a, i) => a + i.tensor.paddedBytes, 0),
      constantBytes: this.constants.reduce((a, c) => a + c.tensor.paddedBytes, 0),
    };
  }

  /** The recorded dispatches by kernel: how often, FLOPs, bytes. */
  get kernelCounts(): Map<string, { dispatches: number; flops: number; bytes: number }> {
    const counts = new Map<string, { dispatches: number; flops: number; bytes: number }>();
    for (const { plan } of this.dispatches) {
      const entry = counts.get(kernelName(plan)) ?? { dispatches: 0, flops: 0, bytes: 0 };
      entry.dispatches++;
      entry.flops += plan.flops;
      entry.bytes += plan.bytes;
      counts.set(kernelName(plan), entry);
    }
    return counts;
  }

  /** Frees the program's buffers. Weights and other persistent tensors belong to their owners. */
  dispose(): void {
    for (const buffer of this.buffers) this.gpu.destroyBuffer(buffer);
    this.buffers.length = 0;
    this.compiled = true;
  }
}
