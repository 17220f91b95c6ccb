/** `webdino eval knn`: how well the nearest neighbours among labelled pictures tell the class of others (spec §6.2). */

import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImageSource } from '../data/source.js';
import { initializeStore } from '../dinov2/initialize.js';
import { vitParameters } from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import { extractFeatures, FeatureExtractor, type SourceFeatures } from '../eval/features.js';
import type { Gpu } from '../gpu/device.js';
import { fewShotKnnAccuracy, KNN_NEIGHBOURS, KNN_TEMPERATURE, type KnnScore, knnAccuracy } from '../eval/knn.js';
import { pixelFeatures } from '../eval/pixels.js';
import { openGpu } from '../node.js';
import { ParameterStore } from '../tensor/parameters.js';
import {
  describeVit,
  findModel,
  type ModelArguments,
  type ModelSettings,
  openLabelled,
  openModel,
  PictureProgress,
  positiveInteger,
  required,
} from './model.js';

export interface EvalKnnArguments extends ModelArguments {
  /** Labelled pictures that vote. */
  readonly train: string;
  /** Labelled pictures that are classified. */
  readonly test: string;
  /** "10,20,100,200". */
  readonly k?: string | number | readonly number[];
  readonly temperature?: string | number;
  /** Few-shot: training pictures of each class, and draws to average over. */
  readonly nPerClass?: string | number;
  readonly nTries?: string | number;
  /** Also raw pixels and the same network with fresh weights. */
  readonly baselines?: boolean;
  readonly json?: boolean;
}

/** Accuracies of one kind of features. */
export interface KnnRow {
  readonly name: string;
  readonly scores: readonly KnnScore[];
}

/** Initial LayerScale of the untrained network: with the recipe's 1e-5 its blocks would do nothing yet. */
const UNTRAINED_LAYER_SCALE = 1;
const UNTRAINED_SEED = 0;

const RESULTS_FILE = 'results_eval_knn.json';

interface KnnSettings {
  readonly model: ModelSettings;
  readonly k: readonly number[];
  readonly temperature: number;
  readonly nPerClass?: number;
  readonly nTries: number;
  readonly baselines: boolean;
}

/** Both sets, and how the test set's labels read in the training set. */
interface LabelledPair {
  readonly train: ImageSource;
  readonly test: ImageSource;
  readonly labelOf: (testLabel: number) => number;
}

/**
 * Prints kNN accuracies and appends them to `results_eval_knn.json` in the run's folder, if the model lies in one.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalKnn(options: EvalKnnArguments): Promise<void> {
  const settings = await readSettings(options);
  const { model } = settings;
  const sources = await openPair(required('--train', options.train), required('--test', options.test));
  try {
    const gpu = await openGpu();
    try {
      const rows = await classifyAll(gpu, settings, sources);
      const facts = {
        model: model.weightsPath,
        network: model.network,
        step: model.step,
        train: { path: sources.train.path, pictures: sources.train.length },
        test: { path: sources.test.path, pictures: sources.test.length },
        size: model.crop,
        resize: model.resize,
        dtype: model.dtype,
        temperature: settings.temperature,
        ...(settings.nPerClass === undefined ? {} : { nPerClass: settings.nPerClass, nTries: settings.nTries }),
      };
      if (model.runFolder !== undefined) {
        const line = { ...facts, ...officialResults(rows[0].scores, settings.nPerClass) };
        await appendFile(join(model.runFolder, RESULTS_FILE), JSON.stringify(line) + '\n');
      }
      console.log(options.json ? JSON.stringify({ ...facts, rows }, null, 2) : knnTable(rows));
    } finally {
      gpu.close();
    }
  } finally {
    await Promise.all([sources.train.close(), sources.test.close()]);
  }
}

async function readSettings(options: EvalKnnArguments): Promise<KnnSettings> {
  const k = neighbourCounts(options.k);
  const temperature = Number(options.temperature ?? KNN_TEMPERATURE);
  if (!(temperature > 0)) throw new UsageError(`--temperature takes a positive number, not ${options.temperature}`);
  const nPerClass = positiveInteger('--n-per-class', options.nPerClass);
  const nTries = positiveInteger('--n-tries', options.nTries) ?? 1;
  const baselines = options.baselines === true;
  return { model: await findModel(options), k, temperature, nPerClass, nTries, baselines };
}

async function openPair(trainPath: string, testPath: string): Promise<LabelledPair> {
  const train = await openLabelled(trainPath, '--train');
  try {
    const test = await openLabelled(testPath, '--test');
    try {
      return { train, test, labelOf: commonLabels(train, test) };
    } catch (error) {
      await test.close();
      throw error;
    }
  } catch (error) {
    await train.close();
    throw error;
  }
}

/** The model's row first, then those of the baselines. */
async function classifyAll(gpu: Gpu, settings: KnnSettings, sources: LabelledPair): Promise<KnnRow[]> {
  const { crop, resize, dtype, network, weightsPath } = settings.model;
  const { vit, weights, batch } = await openModel(gpu, settings.model);
  const pictures = sources.train.length + sources.test.length;
  const progress = new PictureProgress((settings.baselines ? 3 : 1) * pictures);
  progress.note(
    `${network} ${weightsPath} (${describeVit(vit)}), ${crop} px of ${resize}, ${batch} at a time in ${dtype} on ` +
      gpu.capabilities.description,
  );
  const score = async (featuresOf: (source: ImageSource) => Promise<SourceFeatures>): Promise<KnnScore[]> => {
    const train = await featuresOf(sources.train);
    progress.next();
    const test = await featuresOf(sources.test);
    progress.next();
    const { k, temperature, nPerClass, nTries } = settings;
    const request = {
      train: { features: train.features, labels: train.labels.map((label) => label!) },
      test: { features: test.features, labels: test.labels.map((label) => sources.labelOf(label!)) },
      dim: train.dim,
      k,
      temperature,
    };
    if (nPerClass === undefined) return knnAccuracy(gpu, request);
    return fewShotKnnAccuracy(gpu, { ...request, nPerClass, nTries });
  };
  const scoreNetwork = async (store: ParameterStore): Promise<KnnScore[]> => {
    const extractor = new FeatureExtractor(gpu, { vit, weights: store, batch, size: crop, dtype });
    try {
      await extractor.compile();
      return await score((source) => extractFeatures(extractor, source, { resize, ...progress.callbacks }));
    } finally {
      extractor.dispose();
      store.dispose();
    }
  };

  const rows: KnnRow[] = [{ name: network, scores: await scoreNetwork(weights) }];
  if (settings.baselines) {
    const fresh = new ParameterStore(gpu, 'untrained', vitParameters(vit));
    await initializeStore(gpu, fresh, { seed: UNTRAINED_SEED, layerScale: UNTRAINED_LAYER_SCALE });
    rows.push({ name: 'untrained', scores: await scoreNetwork(fresh) });
    rows.push({ name: 'raw pixels', scores: await score((source) => pixelFeatures(source, progress.callbacks)) });
  }
  progress.finish();
  const capped = rows[0].scores.find(({ k, neighbours }) => neighbours < k);
  if (capped) {
    progress.note(`there are ${capped.neighbours} training pictures: larger k count as ${capped.neighbours}`);
  }
  return rows;
}

function neighbourCounts(k: EvalKnnArguments['k']): number[] {
  if (k === undefined) return [...KNN_NEIGHBOURS];
  const parts = typeof k === 'string' ? k.split(',') : [k].flat();
  return parts.map((part) => positiveInteger('--k', typeof part === 'string' ? part.trim() : part)!);
}

/** The keys of the official result file, values in percent (spec §6.2, 6). */
function officialResults(scores: readonly KnnScore[], nPerClass: number | undefined): Record<string, number> {
  const set = nPerClass === undefined ? "'full'" : `'${nPerClass} per class'`;
  return Object.fromEntries(
    scores.flatMap(({ k, top1, top5 }) => [
      [`(${set}, ${k}) Top 1`, top1],
      [`(${set}, ${k}) Top 5`, top5],
    ]),
  );
}

/**
 * How labels of the test set read in the training set: as they are, or by class name where both sources number their classes
 * differently (a test folder that lacks a class shifts the numbers after it).
 * @throws DataError for classes that the training set does not have
 */
function commonLabels(train: ImageSource, test: ImageSource): (label: number) => number {
  const trained = new Set(Array.from({ length: train.length }, (_, i) => train.label(i)!));
  const tested = [...new Set(Array.from({ length: test.length }, (_, i) => test.label(i)!))].sort((a, b) => a - b);
  const [trainNames, testNames] = [train.classNames, test.classNames];
  let labelOf = (label: number): number => label;
  if (trainNames && testNames && tested.some((label) => trainNames[label] !== testNames[label])) {
    labelOf = (label) => trainNames.indexOf(testNames[label]);
    const ambiguous = tested.find(
      (label) => trainNames.indexOf(testNames[label]) !== trainNames.lastIndexOf(testNames[label]),
    );
    if (ambiguous !== undefined) {
      throw new DataError(
        `${train.path} and ${test.path} number their classes differently, and "${testNames[ambiguous]}" names several: ` +
          'give both the same class folders',
      );
    }
  }
  const strangers = tested.filter((label) => !trained.has(labelOf(label)));
  if (strangers.length > 0) {
    const named = strangers.slice(0, 3).map((label) => (testNames ? `"${testNames[label]}"` : String(label)));
    const more = strangers.length > 3 ? ', ...' : '';
    throw new DataError(
      `${test.path} has ${strangers.length} of ${tested.length} classes that ${train.path} has not: ${named.join(', ')}${more}`,
    );
  }
  return labelOf;
}

/** Rows of features, columns of k, percent. */
export function knnTable(rows: readonly KnnRow[]): string {
  const cell = (value: number): string => value.toFixed(1);
  const table = [
    ['kNN, %', ...rows[0].scores.flatMap(({ k }) => [`k=${k} top-1`, 'top-5'])],
    ...rows.map(({ name, scores }) => [name, ...scores.flatMap(({ top1, top5 }) => [cell(top1), cell(top5)])]),
  ];
  const widths = table[0].map((_, column) => Math.max(...table.map((line) => line[column].length)));
  const pad = (text: string, column: number): string =>
    column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]);
  return table.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}
