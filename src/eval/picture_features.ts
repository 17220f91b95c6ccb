/** One vector a picture, for search: the CLS token, the mean patch token, or both side by side. */

import type { ImageSource } from '../data/source.js';
import type { Pooling } from './features.js';
import type { FrozenModel } from './frozen_model.js';
import { forEachBatch, openGlobalReader } from './global_features.js';
import { type RowReader, rowsOf } from './nearest_rows.js';
import type { EvaluationContext } from './task.js';

export interface PictureFeatures {
  readonly rows: RowReader;
  /** [rows]: places in the source; corrupt pictures are left out. */
  readonly indices: readonly number[];
}

/**
 * Features of pictures after the final norm, in the order of `indices`.
 * @throws DataError if every picture is corrupt
 */
export async function pictureFeatures(
  context: EvaluationContext,
  model: FrozenModel,
  source: ImageSource,
  {
    pooling,
    indices,
    what,
  }: { readonly pooling: Pooling; readonly indices?: readonly number[]; readonly what: string },
): Promise<PictureFeatures> {
  const reader = await openGlobalReader(model, {
    crop: context.crop,
    batch: context.batch,
    lastBlocks: 1,
    patchMean: pooling !== 'cls',
  });
  try {
    // The reader's rows are the CLS token and, where it was asked for, the mean behind it.
    const from = pooling === 'patch-mean' ? reader.dim : 0;
    const columns = reader.columns - from;
    const features = new Float32Array((indices?.length ?? source.length) * columns);
    const places: number[] = [];
    await forEachBatch(context, reader, source, { indices, what }, (rows, batch) => {
      for (let i = 0; i < batch.length; i++) {
        const row = rows.subarray(i * reader.columns + from, (i + 1) * reader.columns);
        features.set(row, (places.length + i) * columns);
      }
      places.push(...batch);
    });
    return { rows: rowsOf(features.subarray(0, places.length * columns), columns), indices: places };
  } finally {
    reader.dispose();
  }
}
