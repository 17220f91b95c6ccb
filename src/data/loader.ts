/**
 * Batches of crops for training. Batch t is a function of (source, settings, seed, t): not of timing, of the number of
 * workers, or of the batches before it, so a run that is resumed at step t sees what the uninterrupted one saw.
 *
 * Encoded bytes are read and decoded from this thread (sharp decodes in libuv's pool), decoded pictures are kept in
 * shared memory, crops are cut in worker threads, and a few batches are under way ahead of the one that is asked for.
 */
import { availableParallelism } from 'node:os';
import { DataError, WebdinoError } from '../errors.js';
import type { CropSettings } from './augment.js';
import type { CropBatch, SlotPicture } from './crop_batch.js';
import { type CropExecutor, InlineExecutor, WorkerExecutor } from './crop_executor.js';
import { readRgb } from './decode.js';
import { Gate } from './gate.js';
import { type BadPicture, CorruptPicture, type RgbImage } from './picture.js';
import { PixelCache } from './pixel_cache.js';
import { CounterRandom, RandomPurpose } from './random.js';
import { type Sampler, ShardedInfiniteSampler } from './sampler.js';
import type { ImageSource } from './source.js';

export type { CropBatch } from './crop_batch.js';
export type { BadPicture } from './picture.js';

/** Decodes in flight per loader: a few more than libuv's four threads, so that reading and cutting overlap. */
const DECODES_IN_FLIGHT = 8;

const DEFAULT_CACHE_BYTES = 512 << 20;

/** Random draws for a replacement before falling back to a walk over the source, which cannot miss. */
const RANDOM_REPLACEMENTS = 32;

export interface MultiCropOptions {
  readonly settings: CropSettings;
  /** Pictures a batch of this process. */
  readonly batchSize: number;
  readonly seed: number;
  /** Step of the first batch that `next` gives. Default 0. */
  readonly startStep?: number;
  /** Worker threads that cut crops; 0 cuts in this thread. Default: one less than the cores, 1 to 8. */
  readonly workers?: number;
  /** Batches under way ahead of the one asked for. Default: one more than the workers, at least 2. */
  readonly prefetch?: number;
  /** Memory for decoded pictures, in bytes. Default 512 MiB. */
  readonly cacheBytes?: number;
  /** Which of `world` processes this is. Default 0 of 1. */
  readonly rank?: number;
  readonly world?: number;
  /** Order of the pictures. Default: SHARDED_INFINITE of the seed, rank and world. */
  readonly sampler?: Sampler;
  /** Called once for each picture that is left out. */
  onBad?(bad: BadPicture): void;
}

/** Worker threads that suit this machine: the main thread keeps a core. */
export function defaultWorkers(): number {
  return Math.min(Math.max(availableParallelism() - 1, 1), 8);
}

/** Gives batch `startStep`, `startStep + 1`, … without end. */
export class MultiCropLoader {
  /** Pictures left out so far: name → reason. */
  readonly badPictures: ReadonlyMap<string, string>;

  readonly #source: ImageSource;
  readonly #options: MultiCropOptions;
  readonly #sampler: Sampler;
  readonly #firstSlot: number;
  readonly #executor: CropExecutor;
  readonly #cache: PixelCache;
  readonly #gate = new Gate(DECODES_IN_FLIGHT);
  readonly #prefetch: number;
  readonly #badReasons = new Map<string, string>();
  readonly #badIndices = new Set<number>();
  /** Batches that `next` will give, in order. */
  readonly #underWay: Promise<CropBatch>[] = [];
  /** Batches being worked on, among them some that were already given out as promises. */
  readonly #running = new Set<Promise<CropBatch>>();
  #nextStep: number;
  #closed = false;

  /** Starts on the first batches at once. The source stays the caller's to close, after the loader. */
  constructor(source: ImageSource, options: MultiCropOptions) {
    const { batchSize, seed, settings, rank = 0, world = 1 } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) throw new RangeError(`batch size ${batchSize} is not 1 or more`);
    if (source.length === 0) throw new DataError(`no pictures in ${source.path}`);
    this.badPictures = this.#badReasons;
    this.#source = source;
    this.#options = options;
    this.#sampler = options.sampler ?? new ShardedInfiniteSampler({ length: source.length, seed, rank, world });
    this.#firstSlot = rank * batchSize;
    this.#cache = new PixelCache(options.cacheBytes ?? DEFAULT_CACHE_BYTES);
    const workers = options.workers ?? defaultWorkers();
    const plan = { settings, batchSize, seed, firstSlot: this.#firstSlot };
    this.#executor = workers === 0 ? new InlineExecutor(plan) : new WorkerExecutor(plan, workers);
    this.#prefetch = options.prefetch ?? Math.max(workers + 1, 2);
    this.#nextStep = options.startStep ?? 0;
    this.#startAhead();
  }

  /**
   * The next batch.
   * @throws DataError if every picture is corrupt
   */
  next(): Promise<CropBatch> {
    if (this.#closed) return Promise.reject(new WebdinoError('the loader of crops was closed'));
    // With no prefetching, the batch is started only now.
    const batch = this.#underWay.shift() ?? this.#start();
    this.#startAhead();
    return batch;
  }

  /** Stops the workers and waits until the source is no longer read. Batches not yet delivered are dropped. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#executor.close();
    await Promise.allSettled(this.#running);
  }

  #startAhead(): void {
    while (this.#underWay.length < this.#prefetch) this.#underWay.push(this.#start());
  }

  #start(): Promise<CropBatch> {
    const batch = this.#assemble(this.#nextStep++);
    this.#running.add(batch);
    const done = () => this.#running.delete(batch);
    // A failure is told to whoever asks for this batch; until then it is not an unhandled one.
    batch.then(done, done);
    return batch;
  }

  async #assemble(step: number): Promise<CropBatch> {
    const { batchSize } = this.#options;
    const batch = this.#executor.begin(step);
    batch.catch(() => {});
    const cached: SlotPicture[] = [];
    const loads: Promise<void>[] = [];
    for (let slot = 0; slot < batchSize; slot++) {
      const index = this.#sampler.at(step * batchSize + slot);
      const image = this.#cache.get(index);
      if (image) cached.push({ ...image, slot, index });
      else loads.push(this.#gate.run(() => this.#load(step, slot, index)));
    }
    loads.push(this.#executor.add(step, cached, true));
    // All of them settle before a failure is reported, so that closing the source afterwards is safe.
    const failure = (await Promise.allSettled(loads)).find((load) => load.status === 'rejected');
    if (failure) throw failure.reason;
    return batch;
  }

  /** Brings one picture that was not in the cache to its slot. */
  async #load(step: number, slot: number, index: number): Promise<void> {
    for (let attempt = 0; !this.#closed; attempt++) {
      if (this.#badIndices.size === this.#source.length) throw this.#allBad();
      const candidate = attempt === 0 ? index : this.#replacement(step, slot, attempt);
      if (this.#badIndices.has(candidate)) continue;
      const cached = this.#cache.get(candidate);
      if (cached) return this.#executor.add(step, [{ ...cached, slot, index: candidate }], true);
      const image = await this.#decode(candidate);
      if (!image) continue;
      const kept = this.#cache.keep(candidate, image);
      return this.#executor.add(step, [{ ...(kept ?? image), slot, index: candidate }], kept !== undefined);
    }
  }

  /** The picture, or undefined if it is corrupt; that is noted once. */
  async #decode(index: number): Promise<RgbImage | undefined> {
    const name = this.#source.name(index);
    try {
      return await readRgb(this.#source, index);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      const reason = error instanceof CorruptPicture ? error.reason : error.message;
      if (!this.#badIndices.has(index)) {
        this.#badIndices.add(index);
        this.#badReasons.set(name, reason);
        this.#options.onBad?.({ name, reason });
      }
      return undefined;
    }
  }

  /** Which picture stands in for a corrupt one: a function of (seed, step, slot, attempt). */
  #replacement(step: number, slot: number, attempt: number): number {
    const drawn = Math.min(attempt, RANDOM_REPLACEMENTS);
    const stream = [RandomPurpose.replacement, step, this.#firstSlot + slot, drawn];
    const start = new CounterRandom(this.#options.seed, ...stream).integer(0, this.#source.length - 1);
    return (start + attempt - drawn) % this.#source.length;
  }

  #allBad(): DataError {
    const [name, reason] = [...this.#badReasons][0];
    return new DataError(`all ${this.#source.length} pictures in ${this.#source.path} are corrupt; ${name} ${reason}`);
  }
}
