/**
 * The open GPU: device, capabilities, pipeline cache, buffers, and errors turned into exceptions.
 *
 * WebGPU reports most errors late and elsewhere: an invalid pipeline "runs" in no time, a lost device reads as zeros.
 * So every error is kept here, with the label of the object it names, and thrown at the next `check()`; nothing that the
 * GPU computed is handed out without one.
 */

import { GpuError } from '../errors.js';
import {
  type Capabilities,
  type KernelFamily,
  readCapabilities,
  restrictFamily,
  WANTED_FEATURES,
  WANTED_LIMITS,
} from './capabilities.js';
import { alignUp, BufferUsage, MapMode } from './constants.js';
import { PipelineCache } from './pipelines.js';
import type { ShaderLibrary } from './shaders.js';
import { type TunedTable, withTuned } from './tuning.js';

export interface GpuOptions {
  readonly shaders: ShaderLibrary;
  /** Why this adapter was taken; shown by `webdino doctor` and in reports. */
  readonly reason?: string;
  /** Leaves out what a family above this one needs, or demands what it needs; without it, all the adapter has. */
  readonly family?: KernelFamily;
  /** Variants that were measured to be fastest; those of this adapter apply. */
  readonly tuned?: TunedTable;
}

export class Gpu {
  readonly pipelines: PipelineCache;
  private failure: GpuError | undefined;
  private closing = false;
  private liveBufferCount = 0;
  private liveBufferBytes = 0;
  private peakBufferBytes = 0;

  private constructor(
    readonly device: GPUDevice,
    readonly capabilities: Capabilities,
    readonly shaders: ShaderLibrary,
    readonly reason: string,
    private readonly ownsDevice: boolean,
    /** Only counts: buffers have sizes but no memory, programs are planned but cannot run. */
    readonly dry = false,
  ) {
    this.pipelines = new PipelineCache(device, shaders);
  }

  /** Opens a device with every optional feature and limit that the kernels can use. Throws GpuError. */
  static async open(adapter: GPUAdapter, options: GpuOptions): Promise<Gpu> {
    const requiredFeatures = WANTED_FEATURES.filter((f) =>
      adapter.features.has(f as GPUFeatureName),
    ) as GPUFeatureName[];
    const requiredLimits: Record<string, number> = {};
    for (const name of WANTED_LIMITS) requiredLimits[name] = adapter.limits[name];
    let device: GPUDevice;
    try {
      device = await adapter.requestDevice({ label: 'webdino', requiredFeatures, requiredLimits });
    } catch (cause) {
      throw new GpuError(`the adapter ${adapter.info.description || adapter.info.vendor} gave no device: ${cause}`, {
        cause,
      });
    }
    return Gpu.wrap(device, adapter.info, options, true);
  }

  /** Uses a device that belongs to someone else; `close()` then leaves it open. */
  static fromDevice(device: GPUDevice, options: GpuOptions): Gpu {
    return Gpu.wrap(device, device.adapterInfo, options, false);
  }

  /**
   * A GPU that holds nothing: whatever is built on it is counted in `memory` and `peakBytes` as on the real one, so that a
   * configuration's peak is known before any of it is allocated.
   * @param capabilities of the adapter that the run is meant for: they decide variants and limits
   */
  static dry(capabilities: Capabilities, shaders: ShaderLibrary): Gpu {
    const device = {
      createBuffer: ({ size, label }: GPUBufferDescriptor) => ({ size, label, destroy: () => undefined }),
      queue: { writeBuffer: () => undefined },
    };
    return new Gpu(device as unknown as GPUDevice, capabilities, shaders, 'dry run', false, true);
  }

  private static wrap(device: GPUDevice, info: GPUAdapterInfo, options: GpuOptions, owns: boolean): Gpu {
    const capabilities = withTuned(restrictFamily(readCapabilities(device, info), options.family), options.tuned);
    const gpu = new Gpu(device, capabilities, options.shaders, options.reason ?? '', owns);
    device.addEventListener('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      gpu.fail(new GpuError(`the GPU reported: ${error.message.trim()}`));
    });
    device.lost.then((info) => {
      if (gpu.closing) return;
      gpu.fail(
        new GpuError(
          `the GPU device was lost (${info.reason || 'unknown'}: ${info.message.trim()}); ` +
            'free its memory or restart the driver, then resume from the last checkpoint',
        ),
      );
    });
    return gpu;
  }

  /** Keeps the first error; later ones are mostly its echoes. */
  fail(error: GpuError): void {
    this.failure ??= error;
  }

  /** Throws the first error the GPU reported since it was opened. */
  check(): void {
    if (this.failure) throw this.failure;
  }

  /** @param sizeBytes rounded up to a multiple of 4. Throws GpuError naming the limit when the adapter has no such size. */
  createBuffer(sizeBytes: number, usage: number, label: string): GPUBuffer {
    const size = alignUp(Math.max(sizeBytes, 4), 4);
    const limit = this.capabilities.maxBufferSizeBytes;
    if (size > limit) {
      throw new GpuError(
        `${label} needs ${size} bytes in one buffer; this adapter's maxBufferSize is ${limit}: use a smaller batch or model`,
      );
    }
    const buffer = this.device.createBuffer({ size, usage, label });
    this.liveBufferCount++;
    this.liveBufferBytes += size;
    this.peakBufferBytes = Math.max(this.peakBufferBytes, this.liveBufferBytes);
    return buffer;
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.liveBufferCount--;
    this.liveBufferBytes -= buffer.size;
    buffer.destroy();
  }

  /** Buffers alive now and their bytes; the leak test compares it before and after. */
  get memory(): { readonly buffers: number; readonly bytes: number } {
    return { buffers: this.liveBufferCount, bytes: this.liveBufferBytes };
  }

  /** The most bytes that buffers had at once. */
  get peakBytes(): number {
    return this.peakBufferBytes;
  }

  storageBuffer(sizeBytes: number, label: string): GPUBuffer {
    return this.createBuffer(sizeBytes, BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST, label);
  }

  /** Copies a range of a buffer to the CPU: waits until everything submitted before has run. */
  async readBuffer(buffer: GPUBuffer, offsetBytes: number, sizeBytes: number): Promise<ArrayBuffer> {
    this.check();
    const size = alignUp(sizeBytes, 4);
    const staging = this.createBuffer(
      size,
      BufferUsage.MAP_READ | BufferUsage.COPY_DST,
      `read-back of ${buffer.label}`,
    );
    try {
      const encoder = this.device.createCommandEncoder({ label: staging.label });
      encoder.copyBufferToBuffer(buffer, offsetBytes, staging, 0, size);
      this.device.queue.submit([encoder.finish()]);
      await staging.mapAsync(MapMode.READ);
      const copy = staging.getMappedRange().slice(0, sizeBytes);
      this.check();
      return copy;
    } catch (cause) {
      this.check();
      throw cause;
    } finally {
      this.destroyBuffer(staging);
    }
  }

  /** Waits for all submitted work, then throws whatever went wrong in it. */
  async finish(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    // An error raised by the last submit may be delivered one turn of the event loop later.
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.check();
  }

  close(): void {
    this.closing = true;
    if (this.ownsDevice) this.device.destroy();
  }
}
