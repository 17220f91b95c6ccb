/** Where crops are cut: in this thread, or in worker threads. The results are the same bits. */
import { Worker } from 'node:worker_threads';
import { WebdinoError } from '../errors.js';
import { BatchAssembler, type BatchPlan, type CropBatch, type SlotPicture } from './crop_batch.js';
import type { CropReply, CropRequest } from './crop_worker.js';

/** Turns pictures into batches. */
export interface CropExecutor {
  /** The batch of `step`, once `add` has brought all its slots. Rejects when the executor is closed or breaks. */
  begin(step: number): Promise<CropBatch>;
  /**
   * Hands pictures over.
   * @param cached they lie in the cache; otherwise their memory belongs to the executor from here on
   * @returns when no more memory is held for them
   */
  add(step: number, pictures: readonly SlotPicture[], cached: boolean): Promise<void>;
  close(): Promise<void>;
}

interface Waiting {
  resolve(batch: CropBatch): void;
  reject(error: Error): void;
}

/** The promises of batches under way. */
class Outcomes {
  readonly #waiting = new Map<number, Waiting>();

  promise(step: number): Promise<CropBatch> {
    return new Promise((resolve, reject) => this.#waiting.set(step, { resolve, reject }));
  }

  resolve(batch: CropBatch): void {
    this.#waiting.get(batch.step)?.resolve(batch);
    this.#waiting.delete(batch.step);
  }

  rejectAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

function closedError(): WebdinoError {
  return new WebdinoError('the loader of crops was closed');
}

/** Cuts crops in this thread, and lets other work in between two pictures. */
export class InlineExecutor implements CropExecutor {
  readonly #plan: BatchPlan;
  readonly #open = new Map<number, BatchAssembler>();
  readonly #outcomes = new Outcomes();

  constructor(plan: BatchPlan) {
    this.#plan = plan;
  }

  begin(step: number): Promise<CropBatch> {
    this.#open.set(step, new BatchAssembler(this.#plan, step));
    return this.#outcomes.promise(step);
  }

  async add(step: number, pictures: readonly SlotPicture[]): Promise<void> {
    for (const picture of pictures) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const assembler = this.#open.get(step);
      if (!assembler) return;
      assembler.add(picture);
      if (assembler.complete) {
        this.#open.delete(step);
        this.#outcomes.resolve(assembler.batch);
      }
    }
  }

  async close(): Promise<void> {
    this.#open.clear();
    this.#outcomes.rejectAll(closedError());
  }
}

/** Starts `crop_worker` beside this file. */
function startWorker(plan: BatchPlan): Worker {
  if (import.meta.url.endsWith('.js')) {
    return new Worker(new URL('./crop_worker.js', import.meta.url), { workerData: plan });
  }
  // Run from source under tsx: Node 20 does not pass module hooks on to a worker's entry file, so the worker starts
  // from a line that installs them.
  const hooks = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  const entry = JSON.stringify(new URL('./crop_worker.ts', import.meta.url).href);
  const line = `import(${hooks}).then((tsx) => { tsx.register(); return import(${entry}); })`;
  return new Worker(line, { eval: true, workerData: plan });
}

/** Cuts each batch in one of several worker threads: step t in worker t modulo their number. */
export class WorkerExecutor implements CropExecutor {
  readonly #workers: Worker[];
  readonly #outcomes = new Outcomes();
  readonly #receipts = new Map<number, () => void>();
  #nextReceipt = 0;
  #batchesUnderWay = 0;
  #failure: WebdinoError | undefined;

  constructor(plan: BatchPlan, count: number) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = startWorker(plan);
      worker.on('message', (reply: CropReply) => this.#receive(reply));
      worker.on('error', (error) => this.#fail(new WebdinoError(`a data worker failed: ${error}`, { cause: error })));
      worker.on('exit', (code) => this.#fail(new WebdinoError(`a data worker ended with code ${code}`)));
      // An idle worker must not keep a program alive that forgot to close its loader.
      worker.unref();
      return worker;
    });
  }

  begin(step: number): Promise<CropBatch> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#batchesUnderWay++ === 0) for (const worker of this.#workers) worker.ref();
    return this.#outcomes.promise(step);
  }

  add(step: number, pictures: readonly SlotPicture[], cached: boolean): Promise<void> {
    if (this.#failure || pictures.length === 0) return Promise.resolve();
    const worker = this.#workers[step % this.#workers.length];
    if (cached) {
      worker.postMessage({ step, pictures } satisfies CropRequest);
      return Promise.resolve();
    }
    // A decoder's buffer belongs to the decoder and cannot change threads: it is copied once and the copy transferred.
    const own = pictures.map((picture) => ({ ...picture, data: new Uint8Array(picture.data) }));
    const receipt = this.#nextReceipt++;
    const done = new Promise<void>((resolve) => this.#receipts.set(receipt, resolve));
    worker.postMessage(
      { step, pictures: own, receipt } satisfies CropRequest,
      own.map((picture) => picture.data.buffer),
    );
    return done;
  }

  async close(): Promise<void> {
    this.#fail(closedError());
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #receive(reply: CropReply): void {
    // Replies still arrive while workers are being stopped; letting go of a worker then would let the program end
    // before the worker has.
    if (this.#failure) return;
    if ('receipt' in reply) {
      this.#receipts.get(reply.receipt)?.();
      this.#receipts.delete(reply.receipt);
      return;
    }
    if (--this.#batchesUnderWay === 0) for (const worker of this.#workers) worker.unref();
    this.#outcomes.resolve(reply.batch);
  }

  /** The first failure counts; the exit of workers that follows from it says nothing new. */
  #fail(error: WebdinoError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#outcomes.rejectAll(error);
    for (const resolve of this.#receipts.values()) resolve();
    this.#receipts.clear();
  }
}
