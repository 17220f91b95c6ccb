/** `webdino embed`: features of every picture of a source as a NumPy file, with the pictures' names beside it. */

import { openDataset } from '../data/mnist_source.js';
import { UsageError } from '../errors.js';
import { extractFeatures, FeatureExtractor, POOLINGS } from '../eval/features.js';
import { writeFileAtomic } from '../io/atomic.js';
import { npyHeader } from '../io/npy.js';
import { openGpu } from '../node.js';
import { describeVit, findModel, type ModelArguments, openModel, PictureProgress, required } from './model.js';

export interface EmbedArguments extends ModelArguments {
  /** Folder or archive of pictures. */
  readonly data: string;
  /** The .npy file. */
  readonly out: string;
  /** `cls` (default), `patch-mean` or `cls+patch-mean`. */
  readonly tokens?: string;
}

/** Class of a picture that has none, in the labels file. */
const NO_LABEL = -1;

/**
 * Writes `out` (float32 [n, D], one row a usable picture), `NAME.names.txt` (a name a line, same order) and, if any picture
 * has a class, `NAME.labels.txt` (an integer a line). Each file is whole or not there.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function embed(options: EmbedArguments): Promise<void> {
  const out = required('--out', options.out);
  if (!out.endsWith('.npy'))
    throw new UsageError(`--out ${out}: the features are a NumPy file, so give a name in .npy`);
  const pooling = POOLINGS.find((name) => name === (options.tokens ?? 'cls'));
  if (!pooling) throw new UsageError(`--tokens ${options.tokens} is unknown; use ${POOLINGS.join(', ')}`);
  const dataPath = required('--data', options.data);
  const settings = await findModel(options);
  const source = await openDataset(dataPath);
  try {
    const gpu = await openGpu();
    try {
      const { vit, weights, batch } = await openModel(gpu, settings);
      const progress = new PictureProgress(source.length);
      progress.note(
        `${settings.network} ${settings.weightsPath} (${describeVit(vit)}), ${settings.crop} px of ${settings.resize}, ` +
          `${batch} at a time in ${settings.dtype} on ${gpu.capabilities.description}`,
      );
      const extractor = new FeatureExtractor(gpu, {
        vit,
        weights,
        batch,
        size: settings.crop,
        pooling,
        dtype: settings.dtype,
      });
      await extractor.compile();
      const { features, dim, indices, labels } = await extractFeatures(extractor, source, {
        resize: settings.resize,
        ...progress.callbacks,
      });
      progress.finish();

      const base = out.replace(/\.npy$/, '');
      const lines = (values: readonly (string | number)[]): string => values.map((value) => `${value}\n`).join('');
      // A line end inside a name would shift all names after it.
      await writeFileAtomic(`${base}.names.txt`, lines(indices.map((i) => source.name(i).replace(/[\r\n]/g, ' '))));
      const labelled = labels.some((label) => label !== undefined);
      if (labelled) await writeFileAtomic(`${base}.labels.txt`, lines(labels.map((label) => label ?? NO_LABEL)));
      // Last, so that where there are features, their names are there too.
      const bytes = new Uint8Array(features.buffer, features.byteOffset, features.byteLength);
      await writeFileAtomic(out, [npyHeader([indices.length, dim], '<f4'), bytes]);
      const beside = labelled ? `${base}.names.txt and ${base}.labels.txt` : `${base}.names.txt`;
      console.log(`${out}: ${indices.length} x ${dim} features (${pooling}) of ${dataPath}; ${beside}`);
    } finally {
      gpu.close();
    }
  } finally {
    await source.close();
  }
}
