/** The pictures of a run's report: the first crops the network sees, and what the teacher's patch features look like. */

import { evalCrop } from '../data/augment.js';
import { readRgb } from '../data/decode.js';
import { MultiCropLoader } from '../data/loader.js';
import type { ImageSource } from '../data/source.js';
import { DataError } from '../errors.js';
import { FeatureExtractor } from '../eval/features.js';
import type { Gpu } from '../gpu/device.js';
import type { ParameterStore } from '../tensor/parameters.js';
import type { ResolvedConfig } from './config.js';
import { pcaRgb } from '../eval/pca.js';
import type { ReportData, RgbPicture } from './report.js';
import { cropSettings, vitConfig } from './ssl_config.js';

const CONTACT_ROWS = 6;
const PCA_PICTURES = 8;

/** Smaller pictures are enlarged until they have this many patches a side: fewer show nothing. */
const PCA_GRID = 8;

/** All crops of the first pictures of step 0. Crops depend on seed, step and place alone, so this can be asked any time. */
export async function firstCrops(
  source: ImageSource,
  config: ResolvedConfig,
): Promise<NonNullable<ReportData['crops']>> {
  const settings = cropSettings(config);
  const rows = Math.min(CONTACT_ROWS, config.train.batch_size_per_gpu);
  const loader = new MultiCropLoader(source, {
    settings,
    batchSize: rows,
    seed: config.train.seed,
    workers: 0,
    prefetch: 0,
  });
  try {
    const { globalCrops, localCrops, indices } = await loader.next();
    const picture = (crops: Uint8Array, side: number, n: number): RgbPicture => {
      const bytes = side * side * 3;
      return { width: side, height: side, data: crops.slice(n * bytes, (n + 1) * bytes) };
    };
    return Array.from(indices, (index, row) => ({
      label: source.name(index),
      pictures: [
        ...[0, 1].map((crop) => picture(globalCrops, settings.globalSize, crop * rows + row)),
        ...Array.from({ length: settings.localCount }, (_, crop) =>
          picture(localCrops, settings.localSize, crop * rows + row),
        ),
      ],
    }));
  } finally {
    await loader.close();
  }
}

/** Some pictures of the source, each with three principal components of its patch features, fitted over all of them. */
export async function patchPictures(
  gpu: Gpu,
  teacher: ParameterStore,
  source: ImageSource,
  config: ResolvedConfig,
): Promise<NonNullable<ReportData['pca']>> {
  const vit = vitConfig(config);
  const enlarged = Math.ceil(PCA_GRID / (config.evaluation.crop / vit.patchSize));
  const resize = config.evaluation.resize * enlarged;
  const crop = config.evaluation.crop * enlarged;
  if (vit.embedDim < 3) return [];
  const pictures: Uint8Array[] = [];
  const wanted = Math.min(PCA_PICTURES, source.length);
  for (let i = 0; i < wanted; i++) {
    try {
      pictures.push(evalCrop(await readRgb(source, Math.floor((i * source.length) / wanted)), resize, crop));
    } catch (error) {
      // A corrupt picture is reported by the loader; here another one is as good.
      if (!(error instanceof DataError)) throw error;
    }
  }
  const n = pictures.length;
  const side = crop / vit.patchSize;
  if (n * side * side < 2) return [];
  const pixels = new Uint8Array(n * crop * crop * 3);
  pictures.forEach((picture, i) => {
    pixels.set(picture, i * picture.length);
  });
  const extractor = new FeatureExtractor(gpu, {
    vit,
    weights: teacher,
    prefix: 'backbone.',
    batch: n,
    size: crop,
    patches: true,
  });
  let rgb: Uint8Array;
  try {
    await extractor.compile();
    rgb = pcaRgb(await extractor.tokens(pixels, n), n * side * side, vit.embedDim);
  } finally {
    extractor.dispose();
  }
  const bytes = side * side * 3;
  return pictures.map((data, i) => ({
    source: { width: crop, height: crop, data },
    patches: { width: side, height: side, data: rgb.slice(i * bytes, (i + 1) * bytes) },
  }));
}
