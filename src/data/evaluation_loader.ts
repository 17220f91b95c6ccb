/** Pictures in the order of their source through the evaluation transform (spec §6.1), for kNN, probes and features. */
import { DataError } from '../errors.js';
import { evalCrop } from './augment.js';
import { readRgb } from './decode.js';
import { Gate } from './gate.js';
import { type BadPicture, CorruptPicture } from './picture.js';
import type { ImageSource } from './source.js';

const DECODES_IN_FLIGHT = 8;

export interface EvaluationOptions {
  /** Length of the shorter side after resizing, in pixels (256 for crops of 224). */
  readonly resize: number;
  /** Side of the central square, in pixels. */
  readonly crop: number;
  readonly batchSize: number;
  /** Which pictures, in this order. Default: all. */
  readonly indices?: readonly number[];
  /** Called once for each picture that is left out, in the order of the source. */
  onBad?(bad: BadPicture): void;
}

/** Up to `batchSize` pictures; only the last batch is smaller. */
export interface EvaluationBatch {
  /** `[n, crop, crop, 3]`, 8-bit RGB. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** `[n]`: the pictures' places in the source. */
  readonly indices: number[];
}

/**
 * Yields all usable pictures in order; corrupt ones are left out and reported. The next batch is decoded while the
 * caller works on this one.
 * @throws DataError if every picture is corrupt
 */
export async function* evaluationBatches(
  source: ImageSource,
  options: EvaluationOptions,
): AsyncGenerator<EvaluationBatch, void, undefined> {
  const { resize, crop, batchSize } = options;
  const wanted = options.indices ?? Array.from({ length: source.length }, (_, i) => i);
  const gate = new Gate(DECODES_IN_FLIGHT);
  const bytes = crop * crop * 3;

  const load = async (index: number): Promise<Uint8Array | BadPicture> => {
    const name = source.name(index);
    try {
      return evalCrop(await readRgb(source, index), resize, crop);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      return { name, reason: error instanceof CorruptPicture ? error.reason : error.message };
    }
  };

  const underWay: Promise<Uint8Array | BadPicture>[] = [];
  let started = 0;
  const startAhead = () => {
    while (started < wanted.length && underWay.length < 2 * batchSize) {
      const index = wanted[started++];
      const loading = gate.run(() => load(index));
      // A failure is reported in its turn below.
      loading.catch(() => {});
      underWay.push(loading);
    }
  };

  try {
    let usable = 0;
    let done = 0;
    while (done < wanted.length) {
      const pixels = new Uint8Array(batchSize * bytes);
      const indices: number[] = [];
      while (indices.length < batchSize && done < wanted.length) {
        startAhead();
        const loaded = await underWay.shift()!;
        const index = wanted[done++];
        if (loaded instanceof Uint8Array) {
          pixels.set(loaded, indices.length * bytes);
          indices.push(index);
        } else {
          options.onBad?.(loaded);
        }
      }
      if (indices.length === 0) break;
      usable += indices.length;
      startAhead();
      yield { pixels: pixels.subarray(0, indices.length * bytes), indices };
    }
    if (usable === 0 && wanted.length > 0)
      throw new DataError(`all ${wanted.length} pictures in ${source.path} are corrupt`);
  } finally {
    // A caller that stops early may close the source next.
    await Promise.allSettled(underWay);
  }
}
