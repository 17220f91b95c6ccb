/**
 * What a picture as a whole is to a frozen model: the CLS tokens of its last blocks, and the mean of its patch tokens, all
 * after the final norm (spec §6.2 to §6.4). kNN, logistic regression and linear probes are all read from here.
 */

import { evaluationBatches } from '../data/evaluation_loader.js';
import type { ImageSource } from '../data/source.js';
import type { FrozenModel, TokenReader } from './frozen_model.js';
import type { EvaluationContext } from './task.js';

export interface GlobalFeatures {
  /** A level each, shallow to deep, f32 [n, dim]. */
  readonly cls: readonly Float32Array[];
  /** f32 [n, dim] of the deepest level, where it was wanted. */
  readonly patchMean?: Float32Array;
  readonly dim: number;
  /** [n], in the training set's numbering. */
  readonly labels: Int32Array;
  /** [n]: places in the source; corrupt pictures are left out. */
  readonly indices: readonly number[];
}

export interface GlobalFeatureOptions {
  /** How many of the last blocks' CLS tokens; a model with fewer gives those it has. */
  readonly lastBlocks: number;
  readonly patchMean: boolean;
  /** How the source's labels read in the training set. Default: as they are. */
  readonly labelOf?: (label: number) => number;
  /** Shorter side before the centre crop. Default: the context's. */
  readonly resize?: number;
  /** Which pictures. Default: all. */
  readonly indices?: readonly number[];
  /** What progress is shown as. */
  readonly what?: string;
}

/** Global features of batches of pixels, a row a picture. */
export interface GlobalReader {
  /** CLS tokens of a row, shallow to deep; the mean patch token follows them where there is one. */
  readonly levels: number;
  /** Values of one token. */
  readonly dim: number;
  /** Values of a row. */
  readonly columns: number;
  /** Most pictures a call. */
  readonly batch: number;
  /** @returns [n, columns]. Calls may overlap. @param pixels u8 [n, crop, crop, 3] */
  read(pixels: Uint8Array, n: number): Promise<Float32Array>;
  dispose(): void;
}

/** Opens a model for square crops. @throws UsageError for a crop that patches do not divide */
export async function openGlobalReader(
  model: FrozenModel,
  { crop, batch, lastBlocks, patchMean }: { crop: number; batch: number; lastBlocks: number; patchMean: boolean },
): Promise<GlobalReader> {
  const count = Math.min(lastBlocks, model.depth);
  const blocks = Array.from({ length: count }, (_, i) => model.depth - count + i);
  const reader: TokenReader = await model.open({
    size: [crop, crop],
    batch,
    blocks,
    norm: true,
    patches: false,
    mean: patchMean,
  });
  const { levels, dim } = reader;
  const columns = (levels + Number(patchMean)) * dim;
  return {
    levels,
    dim,
    columns,
    batch,
    read: async (pixels, n) => {
      const { cls, mean } = await reader.read(pixels, n);
      const parts = patchMean ? [...cls, mean!] : cls;
      const rows = new Float32Array(n * columns);
      parts.forEach((part, p) => {
        for (let i = 0; i < n; i++) rows.set(part.subarray(i * dim, (i + 1) * dim), i * columns + p * dim);
      });
      return rows;
    },
    dispose: () => reader.dispose(),
  };
}

/** Batches whose features may be under way at once: one on the GPU, one being read back or decoded. */
const BATCHES_IN_FLIGHT = 2;

/**
 * Runs all usable pictures of a source through the evaluation transform and the reader, in order. Corrupt ones are noted.
 * @param take called with the features [n, columns] of each batch and the places of its pictures in the source
 * @throws DataError if every picture is corrupt
 */
export async function forEachBatch(
  context: EvaluationContext,
  reader: GlobalReader,
  source: ImageSource,
  { resize = context.resize, indices, what }: Pick<GlobalFeatureOptions, 'resize' | 'indices' | 'what'>,
  take: (rows: Float32Array, indices: readonly number[]) => Promise<void> | void,
): Promise<void> {
  const total = indices?.length ?? source.length;
  const name = what ?? `features of ${source.path}`;
  let done = 0;
  const underWay: { indices: readonly number[]; rows: Promise<Float32Array> }[] = [];
  const takeOldest = async (): Promise<void> => {
    const batch = underWay.shift()!;
    await take(await batch.rows, batch.indices);
    done += batch.indices.length;
    context.progress(name, done, total);
  };
  context.progress(name, 0, total);
  try {
    const onBad = ({ name: picture, reason }: { name: string; reason: string }): void =>
      context.note(`left out: ${picture} ${reason}`);
    const options = { resize, crop: context.crop, batchSize: reader.batch, indices, onBad };
    for await (const batch of evaluationBatches(source, options)) {
      const rows = reader.read(batch.pixels, batch.indices.length);
      // It is awaited in its turn; until then a failure must not count as unhandled.
      rows.catch(() => {});
      underWay.push({ indices: batch.indices, rows });
      if (underWay.length >= BATCHES_IN_FLIGHT) await takeOldest();
    }
    while (underWay.length > 0) await takeOldest();
  } finally {
    await Promise.allSettled(underWay.map((batch) => batch.rows));
  }
}

/**
 * Features of all usable pictures of a labelled source, in memory.
 * @throws DataError if every picture is corrupt; UsageError for a crop that patches do not divide
 */
export async function readGlobalFeatures(
  context: EvaluationContext,
  model: FrozenModel,
  source: ImageSource,
  options: GlobalFeatureOptions,
): Promise<GlobalFeatures> {
  const { lastBlocks, patchMean, labelOf = (label) => label, what } = options;
  const { crop, batch } = context;
  const reader = await openGlobalReader(model, { crop, batch, lastBlocks, patchMean });
  try {
    const { levels, dim, columns } = reader;
    const most = options.indices?.length ?? source.length;
    const parts = Array.from({ length: levels + Number(patchMean) }, () => new Float32Array(most * dim));
    const places: number[] = [];
    const named = { ...options, what: what ?? `${model.name}: features of ${source.path}` };
    await forEachBatch(context, reader, source, named, (rows, batchPlaces) => {
      parts.forEach((part, p) => {
        for (let i = 0; i < batchPlaces.length; i++) {
          const at = i * columns + p * dim;
          part.set(rows.subarray(at, at + dim), (places.length + i) * dim);
        }
      });
      places.push(...batchPlaces);
    });
    const used = parts.map((part) => part.subarray(0, places.length * dim));
    return {
      cls: used.slice(0, levels),
      patchMean: patchMean ? used[levels] : undefined,
      dim,
      labels: Int32Array.from(places, (place) => labelOf(source.label(place)!)),
      indices: places,
    };
  } finally {
    reader.dispose();
  }
}
