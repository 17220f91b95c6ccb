/** One batch of crops, filled picture by picture in any order, on the main thread or in a worker. */
import { type CropSettings, multiCrop } from './augment.js';
import type { RgbImage } from './picture.js';
import { CounterRandom, RandomPurpose } from './random.js';

/** The crops of B pictures, 8-bit RGB, crop-major (all first crops of the batch, then all second ones; spec §3.3). */
export interface CropBatch {
  readonly step: number;
  /** `[2·B, globalSize, globalSize, 3]`, or `[B, …]` with a `globalCount` of 1. */
  readonly globalCrops: Uint8Array<ArrayBuffer>;
  /** `[localCount·B, localSize, localSize, 3]`. */
  readonly localCrops: Uint8Array<ArrayBuffer>;
  /** `[B]`: which picture of the source each slot shows, corrupt ones already replaced. */
  readonly indices: Uint32Array<ArrayBuffer>;
}

/** What all batches of a run have in common. */
export interface BatchPlan {
  readonly settings: CropSettings;
  readonly batchSize: number;
  readonly seed: number;
  /** Number of this process's first slot among the slots of all processes; random numbers are named by the sum. */
  readonly firstSlot: number;
}

/** A decoded picture on its way to a slot of a batch. */
export interface SlotPicture extends RgbImage {
  readonly slot: number;
  /** In the source. */
  readonly index: number;
}

/** Collects the views of one batch. */
export class BatchAssembler {
  readonly batch: CropBatch;
  readonly #plan: BatchPlan;
  #missing: number;

  constructor(plan: BatchPlan, step: number) {
    const { settings, batchSize } = plan;
    const globals = settings.globalCount ?? 2;
    this.#plan = plan;
    this.#missing = batchSize;
    this.batch = {
      step,
      globalCrops: new Uint8Array(globals * batchSize * settings.globalSize ** 2 * 3),
      localCrops: new Uint8Array(settings.localCount * batchSize * settings.localSize ** 2 * 3),
      indices: new Uint32Array(batchSize),
    };
  }

  /** Cuts the views of one slot; its random numbers depend on (seed, step, slot) alone. Each slot comes once. */
  add(picture: SlotPicture): void {
    const { settings, batchSize, seed, firstSlot } = this.#plan;
    const { globalCrops, localCrops, indices, step } = this.batch;
    const { slot } = picture;
    const view = (crops: Uint8Array, size: number, crop: number) => {
      const bytes = size * size * 3;
      const start = (crop * batchSize + slot) * bytes;
      return crops.subarray(start, start + bytes);
    };
    const random = new CounterRandom(seed, RandomPurpose.crops, step, firstSlot + slot);
    multiCrop(picture, settings, random, {
      global: Array.from({ length: settings.globalCount ?? 2 }, (_, crop) =>
        view(globalCrops, settings.globalSize, crop),
      ),
      local: Array.from({ length: settings.localCount }, (_, crop) => view(localCrops, settings.localSize, crop)),
    });
    indices[slot] = picture.index;
    this.#missing--;
  }

  get complete(): boolean {
    return this.#missing === 0;
  }
}
