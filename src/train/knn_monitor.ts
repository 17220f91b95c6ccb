/**
 * kNN accuracy while a network trains: the one number that tells whether its features get better. The teacher's is taken
 * as it changes; the untrained network's and raw pixels' are what it must beat.
 */

import { openDataset } from '../data/mnist_source.js';
import type { ImageSource } from '../data/source.js';
import type { VitConfig } from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import { extractFeatures, FeatureExtractor, fittingBatch, type SourceFeatures } from '../eval/features.js';
import { knnAccuracy } from '../eval/knn.js';
import { pixelFeatures } from '../eval/pixels.js';
import type { Gpu } from '../gpu/device.js';
import type { ParameterStore } from '../tensor/parameters.js';
import type { ResolvedConfig } from './config.js';
import { vitConfig } from './ssl_config.js';

/** Top-1 in percent, by number of neighbours. */
export type KnnTop1 = ReadonlyMap<number, number>;

const BATCH = 64;

export class KnnMonitor {
  private constructor(
    private readonly gpu: Gpu,
    private readonly config: ResolvedConfig,
    private readonly vit: VitConfig,
    private readonly train: ImageSource,
    private readonly test: ImageSource,
  ) {}

  /**
   * Opens the labelled pictures that the configuration names.
   * @returns undefined where it names none, or no period
   * @throws UsageError when only one of the two is named; DataError when pictures or labels are missing
   */
  static async open(gpu: Gpu, config: ResolvedConfig): Promise<KnnMonitor | undefined> {
    const { eval_period: period, eval_train_path: trainPath, eval_val_path: testPath } = config.train;
    if (period === 0 || (trainPath === '' && testPath === '')) return undefined;
    if (trainPath === '' || testPath === '') {
      throw new UsageError('kNN needs both train.eval_train_path and train.eval_val_path; one is empty.');
    }
    const train = await openDataset(trainPath);
    try {
      const test = await openDataset(testPath);
      try {
        checkLabels(train, test);
        return new KnnMonitor(gpu, config, vitConfig(config), train, test);
      } catch (error) {
        await test.close();
        throw error;
      }
    } catch (error) {
      await train.close();
      throw error;
    }
  }

  /** For people: what is classified by what. */
  get dataset(): string {
    const { train, test } = this;
    return `${test.path}, ${test.length.toLocaleString('en-US')} pictures; neighbours from ${train.path} (${train.length.toLocaleString('en-US')})`;
  }

  /** Accuracy of a network's CLS features. Waits for the GPU. */
  async network(weights: ParameterStore): Promise<KnnTop1> {
    const { gpu, config, vit } = this;
    const { resize, crop } = config.evaluation;
    const batch = fittingBatch(gpu, vit, crop, BATCH);
    const extractor = new FeatureExtractor(gpu, { vit, weights, prefix: 'backbone.', batch, size: crop });
    try {
      await extractor.compile();
      return await this.accuracy((source, indices) => extractFeatures(extractor, source, { resize, indices }));
    } finally {
      extractor.dispose();
    }
  }

  /** Accuracy of the pictures themselves, shrunk. */
  pixels(): Promise<KnnTop1> {
    return this.accuracy((source, indices) => pixelFeatures(source, { indices }));
  }

  private async accuracy(
    featuresOf: (source: ImageSource, indices: readonly number[]) => Promise<SourceFeatures>,
  ): Promise<KnnTop1> {
    const labelled = async (source: ImageSource) => {
      const { features, labels, dim } = await featuresOf(source, labelledPictures(source));
      return { features, labels: labels.map(Number), dim };
    };
    const train = await labelled(this.train);
    const test = await labelled(this.test);
    const scores = await knnAccuracy(this.gpu, { train, test, dim: train.dim, k: this.config.train.eval_k });
    return new Map(scores.map(({ k, top1 }) => [k, top1]));
  }

  async close(): Promise<void> {
    await this.train.close();
    await this.test.close();
  }
}

function labelledPictures(source: ImageSource): number[] {
  return Array.from({ length: source.length }, (_, i) => i).filter((i) => source.label(i) !== undefined);
}

function checkLabels(train: ImageSource, test: ImageSource): void {
  for (const source of [train, test]) {
    if (labelledPictures(source).length === 0) {
      throw new DataError(
        `kNN needs labels, and ${source.path} has none: one folder a class, or a .csv beside an archive`,
      );
    }
  }
  // Folders number their classes each by itself: a class that is missing in one of them shifts the others.
  const differs =
    test.classNames?.findIndex((name, label) => train.classNames && train.classNames[label] !== name) ?? -1;
  if (differs >= 0) {
    throw new DataError(
      `class ${differs} is "${train.classNames![differs] ?? 'missing'}" in ${train.path} and "${test.classNames![differs]}" in ${test.path}: ` +
        'give both the same class folders',
    );
  }
}
