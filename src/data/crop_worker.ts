/** Worker thread that cuts crops: decoded pictures come in by message, whole batches go out, buffers transferred. */
import { parentPort, workerData } from 'node:worker_threads';
import { BatchAssembler, type BatchPlan, type CropBatch, type SlotPicture } from './crop_batch.js';

/** Pictures for the slots of one step. */
export interface CropRequest {
  readonly step: number;
  readonly pictures: readonly SlotPicture[];
  /** Names a reply that says the pictures' memory is free again; absent for pictures in the cache. */
  readonly receipt?: number;
}

export type CropReply = { readonly receipt: number } | { readonly batch: CropBatch };

const port = parentPort;
if (port) {
  const plan = workerData as BatchPlan;
  const open = new Map<number, BatchAssembler>();
  port.on('message', ({ step, pictures, receipt }: CropRequest) => {
    const assembler = open.get(step) ?? new BatchAssembler(plan, step);
    open.set(step, assembler);
    for (const picture of pictures) assembler.add(picture);
    if (receipt !== undefined) port.postMessage({ receipt } satisfies CropReply);
    if (!assembler.complete) return;
    open.delete(step);
    const { batch } = assembler;
    port.postMessage({ batch } satisfies CropReply, [
      batch.globalCrops.buffer,
      batch.localCrops.buffer,
      batch.indices.buffer,
    ]);
  });
}
