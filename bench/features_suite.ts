/**
 * `webdino bench features`: pictures a second through a frozen backbone, from u8 pixels on the CPU to CLS features back
 * there, two batches under way. Random weights; checked against float32, one picture at a time.
 */

import { initializeStore } from '../src/dinov2/initialize.js';
import { vitParameters } from '../src/dinov2/vit.js';
import { FeatureExtractor } from '../src/eval/features.js';
import type { Gpu } from '../src/gpu/device.js';
import { GpuError } from '../src/errors.js';
import { ParameterStore } from '../src/tensor/parameters.js';
import { loadConfig } from '../src/train/config.js';
import { vitConfig } from '../src/train/ssl_config.js';
import type { Calibration } from './calibration.js';
import { failures } from './checked_bench.js';
import { type Comparison, compare } from './comparison.js';
import { pixelBytes } from './step_case.js';

export interface FeatureSettings {
  readonly arch: string;
  readonly patch: number;
  /** Pixels of a picture's side. */
  readonly size: number;
  readonly batch: number;
  readonly dtype: 'f32' | 'f16';
}

export const FEATURE_DEFAULTS: Readonly<Record<'full' | 'small', FeatureSettings>> = {
  full: { arch: 'vit_small', patch: 14, size: 224, batch: 64, dtype: 'f32' },
  small: { arch: 'vit_small', patch: 14, size: 112, batch: 2, dtype: 'f32' },
};

export type FeatureOutcome =
  | {
      readonly settings: FeatureSettings;
      readonly imagesPerSecond: number;
      /** Median, wall clock. */
      readonly msPerBatch: number;
      readonly error: number;
      /** The calibration product after the timing over before. */
      readonly calibration: number;
    }
  | { readonly settings: FeatureSettings; readonly refused: string };

/** Blocks that do something, unlike those of the recipe's initial 1e-5. */
const LAYER_SCALE = 1;
const SEED = 5;

/** Another order of sums through all blocks; and halves through all blocks. */
const BOUND = { f32: 1e-3, f16: 0.03 };

const BATCHES_IN_FLIGHT = 2;
const LEAST_BATCHES = 4;

/** @param seconds to measure for, at least */
export async function measureFeatures(
  gpu: Gpu,
  settings: FeatureSettings,
  calibration: Calibration,
  seconds: number,
): Promise<FeatureOutcome> {
  const { arch, patch, size, batch, dtype } = settings;
  const resolved = loadConfig({
    set: [
      `student.arch=${arch}`,
      `student.patch_size=${patch}`,
      `crops.global_crops_size=${size}`,
      `crops.local_crops_size=${size}`,
    ],
  });
  const vit = { ...vitConfig(resolved), layerScale: LAYER_SCALE };
  const weights = new ParameterStore(gpu, 'backbone', vitParameters(vit));
  const opened: FeatureExtractor[] = [];
  const open = async (options: { batch: number; dtype: 'f32' | 'f16' }): Promise<FeatureExtractor> => {
    const extractor = new FeatureExtractor(gpu, { vit, weights, size, ...options });
    opened.push(extractor);
    await extractor.compile();
    return extractor;
  };
  try {
    await initializeStore(gpu, weights, { seed: SEED, layerScale: LAYER_SCALE });
    const pixels = pixelBytes(batch, size);
    const single = await open({ batch: 1, dtype: 'f32' });
    const extractor = await open({ batch, dtype });
    const features = await extractor.features(pixels, batch);
    const comparisons: Comparison[] = [];
    for (const picture of new Set([0, batch - 1])) {
      const bytes = pixels.length / batch;
      const expected = await single.features(pixels.subarray(picture * bytes, (picture + 1) * bytes), 1);
      const actual = features.subarray(picture * extractor.dim, (picture + 1) * extractor.dim);
      comparisons.push(compare(`picture ${picture}`, actual, expected, BOUND[dtype]));
    }
    const failed = failures(comparisons);
    if (failed) return { settings, refused: failed };

    const before = await calibration.warm();
    const ends = [performance.now()];
    const underWay: Promise<unknown>[] = [];
    while (ends.length <= LEAST_BATCHES || ends[ends.length - 1] - ends[0] < 1000 * seconds) {
      underWay.push(extractor.features(pixels, batch).then(() => ends.push(performance.now())));
      if (underWay.length >= BATCHES_IN_FLIGHT) await underWay.shift();
    }
    await Promise.all(underWay);
    const times = ends
      .slice(1)
      .map((end, i) => end - ends[i])
      .sort((a, b) => a - b);
    const msPerBatch = times[times.length >> 1];
    return {
      settings,
      imagesPerSecond: (1000 * batch) / msPerBatch,
      msPerBatch,
      error: comparisons.reduce((most, { error }) => Math.max(most, error), 0),
      calibration: (await calibration.probe()) / before,
    };
  } catch (error) {
    if (!(error instanceof GpuError)) throw error;
    return { settings, refused: error.message };
  } finally {
    for (const extractor of opened) extractor.dispose();
    weights.dispose();
  }
}
