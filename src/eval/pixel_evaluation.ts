/**
 * What segmentation, depth and canopy height share: a head is trained on the frozen tokens of every model with the same data,
 * seeds and draws, predicts every test picture, and is judged by sums over pictures.
 */

import { basename, dirname } from 'node:path';
import {
  type DensePair,
  type DenseSource,
  type DenseSourceOptions,
  openDenseSource,
  type TargetKind,
} from '../data/dense_source.js';
import { DataError, UsageError } from '../errors.js';
import { type DenseSet, holdOut, openDenseSet, typicalMetres } from './dense_set.js';
import { type Features, type HeadTraining, trainPixelHead, type ViewSettings } from './dense_training.js';
import type { FrozenModel } from './frozen_model.js';
import {
  fingerprint,
  PixelHead,
  type PixelHeadConfig,
  type PixelTask,
  type Protocol,
  protocolBlocks,
} from './pixel_head.js';
import { PixelPredictor, type PredictionMode } from './pixel_prediction.js';
import { judge, type PictureRows, type SummedMetrics } from './picture_sums.js';
import type { EvaluationReport, Figure } from './result.js';
import type { EvaluationContext } from './task.js';

/** What the three tasks are asked. Sizes in pixels; what is left out has a default that fits the pictures and the adapter. */
export interface PixelRequest {
  readonly train: string;
  readonly test?: string;
  /** Folders of the targets, where they lie apart. */
  readonly trainTargets?: string;
  readonly testTargets?: string;
  /** Share of `train` that is held out, where there is no `test`; 0.25 by default. */
  readonly split?: number;
  /** Default: the first of the task's. */
  readonly protocol?: Protocol;
  /** Default: `end-to-end` on hardware, `cached` on an adapter that computes on the CPU. */
  readonly features?: Features;
  readonly iterations?: number;
  readonly headLearningRate?: number;
  /** Windows a step. */
  readonly headBatch?: number;
  /** [height, width] of a window. */
  readonly crop?: readonly [number, number];
  readonly shorterSide?: number;
  /** DPT: channels of the fusion blocks. */
  readonly channels?: number;
  /** Where the first model's head is written. */
  readonly headFile?: string;
}

/** A prediction at the size of the picture's target. */
export interface PixelPrediction {
  readonly width: number;
  readonly height: number;
  readonly values: Uint8Array | Float32Array;
}

/** Defaults of a protocol on hardware and on an adapter that computes on the CPU. */
export interface ProtocolDefaults {
  readonly iterations: number;
  readonly headBatch: number;
  readonly headLearningRate: number;
  readonly channels: number;
}

/** Sizes that a task works at. */
export interface PixelSizes {
  readonly shorterSide?: number;
  /** [height, width] */
  readonly crop: readonly [number, number];
}

/** One of the tasks, set up for a request. */
export interface PixelTaskDefinition {
  readonly task: PixelTask;
  readonly protocol: Protocol;
  readonly kind: TargetKind;
  readonly source: Omit<DenseSourceOptions, 'path' | 'targets' | 'kind'>;
  readonly defaults: ProtocolDefaults;
  /** @param multiple sides of windows are multiples of it */
  sizes(set: DenseSet, multiple: number): PixelSizes;
  /** Metrics once the classes are known. */
  metrics(classNames: readonly string[]): SummedMetrics;
  /** [low, high] in metres; zeros for segmentation. */
  readonly range: readonly [number, number];
  views(sizes: PixelSizes): ViewSettings;
  training(iterations: number): Pick<HeadTraining, 'schedule' | 'warmUp' | 'weightDecay' | 'maxNorm'>;
  mode(sizes: PixelSizes, multiple: number): PredictionMode;
  predict(predictor: PixelPredictor, head: PixelHead, pair: DensePair, mode: PredictionMode): Promise<PixelPrediction>;
  /** Sums of one picture; undefined where no pixel counts. */
  row(pair: DensePair, prediction: PixelPrediction, classNames: readonly string[]): Float64Array | undefined;
  figures(first: FirstModel): Figure[];
  notes(first: FirstModel): string[];
  /** For the report. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** What figures are drawn from. */
export interface FirstModel {
  readonly name: string;
  readonly classNames: readonly string[];
  readonly rows: PictureRows;
  /** Some test pictures with the prediction of every network, the first model's first. */
  readonly samples: readonly {
    readonly pair: DensePair;
    readonly predictions: readonly { readonly model: string; readonly prediction: PixelPrediction }[];
  }[];
}

const SAMPLES_SHOWN = 8;

const SPLIT = 0.25;

/** Windows a pass through the network. */
const MOST_WINDOWS = 32;

/** Evaluates all models of the context. */
export async function evaluatePixels(
  context: EvaluationContext,
  request: PixelRequest,
  definition: PixelTaskDefinition,
): Promise<EvaluationReport> {
  const started = performance.now();
  const { gpu, models, seed, bootstrapDraws } = context;
  const { task, kind, protocol } = definition;
  const { features = gpu.capabilities.software ? 'cached' : 'end-to-end' } = request;
  const sources = await openSources(request, definition, seed);
  try {
    const trainSet = await readSet(sources.train, 'training pictures', context);
    const testSet = await readSet(sources.test, 'test pictures', context);
    const classNames = kind === 'labels' ? classesOf(sources, trainSet, testSet) : [];
    const multiple = models.map(({ patchSize }) => patchSize).reduce(leastCommonMultiple);
    const sizes = withAsked(definition.sizes(trainSet, multiple), request, multiple);
    const { defaults } = definition;
    const iterations = request.iterations ?? defaults.iterations;
    const training: HeadTraining = {
      ...definition.training(iterations),
      iterations,
      batch: request.headBatch ?? defaults.headBatch,
      learningRate: request.headLearningRate ?? defaults.headLearningRate,
      views: definition.views(sizes),
      features,
    };
    const channels = request.channels ?? defaults.channels;
    const typical = kind === 'labels' ? undefined : await typicalMetres(trainSet);
    const mode = definition.mode(sizes, multiple);
    // The context's batch is of squares of its crop; larger windows come fewer at a time.
    const pixels = sizes.crop[0] * sizes.crop[1];
    const tokenBatch = Math.max(Math.min(Math.floor((context.batch * context.crop ** 2) / pixels), MOST_WINDOWS), 1);
    const shown = samplesOf(testSet.length);
    const samples: { pair: DensePair; predictions: { model: string; prediction: PixelPrediction }[] }[] = [];
    const judged: { name: string; rows: (Float64Array | undefined)[]; loss: number }[] = [];

    for (const [m, model] of models.entries()) {
      const config = await headConfig(definition, model, { classNames, channels, sizes, set: trainSet });
      const head = await PixelHead.create(gpu, config, seed, typical);
      const predictor = new PixelPredictor(gpu, model, head, tokenBatch);
      try {
        const { losses } = await trainPixelHead(head, model, trainSet, training, {
          ...context,
          tokenBatch: context.batch,
        });
        if (m === 0 && request.headFile !== undefined) await head.save(request.headFile, iterations);
        const rows: (Float64Array | undefined)[] = [];
        for (let i = 0; i < testSet.length; i++) {
          const pair = await testSet.pair(i);
          const prediction = await definition.predict(predictor, head, pair, mode);
          rows.push(definition.row(pair, prediction, classNames));
          const place = shown.indexOf(i);
          if (place >= 0 && !model.floor) {
            samples[place] ??= { pair, predictions: [] };
            samples[place].predictions.push({ model: model.name, prediction });
          }
          context.progress(`${task} by ${model.name}`, i + 1, testSet.length);
        }
        judged.push({ name: model.name, rows, loss: losses[losses.length - 1][1] });
      } finally {
        predictor.dispose();
        head.dispose();
      }
    }

    const counted = judged[0].rows.flatMap((row, i) => (row ? [i] : []));
    if (counted.length === 0) throw new DataError(`${testSet.path}: no pixel of any test picture counts`);
    const uncounted = testSet.length - counted.length;
    const rowsOf = (rows: readonly (Float64Array | undefined)[]): Float64Array[] => counted.map((i) => rows[i]!);
    const { metrics, margins } = judge(
      judged.map(({ name, rows }) => ({ name, rows: rowsOf(rows) })),
      definition.metrics(classNames),
      { draws: bootstrapDraws, seed },
    );
    const first: FirstModel = { name: models[0].name, classNames, rows: rowsOf(judged[0].rows), samples };
    const notes = [
      ...trainSet.notes,
      ...testSet.notes,
      ...(uncounted > 0 ? [`${uncounted} test pictures have no pixel that counts and are left out`] : []),
      ...(request.test === undefined
        ? [`no --test: ${testSet.length} of ${sources.pairs} pictures were held out, drawn from the seed ${seed}`]
        : []),
      ...(features === 'cached'
        ? ['the heads saw cached tokens of fixed windows and their mirror images, without other augmentation']
        : []),
      ...definition.notes(first),
    ];
    return {
      task,
      dataset: datasetName(request.train),
      train: { path: request.train, pictures: trainSet.length },
      test: { path: request.test ?? request.train, pictures: counted.length },
      settings: {
        protocol,
        features,
        iterations,
        headBatch: training.batch,
        headLearningRate: training.learningRate,
        schedule: training.schedule,
        warmUp: training.warmUp,
        weightDecay: training.weightDecay,
        crop: sizes.crop,
        shorterSide: sizes.shorterSide ?? 'as it is',
        ...(protocol === 'dpt' ? { channels } : {}),
        ...(request.test === undefined ? { split: request.split ?? SPLIT } : {}),
        testFlip: mode.flip,
        testScales: mode.scales,
        testMode: mode.mode,
        ...definition.settings,
      },
      models: models.map(({ name, floor }, i) => ({
        model: name,
        floor,
        metrics: metrics[i],
        chosen: { 'last loss': Number(judged[i].loss.toPrecision(4)) },
      })),
      margins,
      figures: definition.figures(first),
      notes,
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await sources.close();
  }
}

interface Sources {
  readonly train: DenseSource;
  readonly test: DenseSource;
  /** Pairs of the training source before any is held out. */
  readonly pairs: number;
  close(): Promise<void>;
}

async function openSources(
  request: PixelRequest,
  { kind, source }: PixelTaskDefinition,
  seed: number,
): Promise<Sources> {
  const { train, test, trainTargets, testTargets, split = SPLIT } = request;
  const whole = await openDenseSource({ ...source, path: train, targets: trainTargets, kind });
  try {
    if (test !== undefined) {
      const other = await openDenseSource({ ...source, path: test, targets: testTargets, kind });
      const close = async (): Promise<void> => {
        await whole.close();
        await other.close();
      };
      return { train: whole, test: other, pairs: whole.length, close };
    }
    if (split === undefined)
      throw new UsageError('--test is missing; without one, --split 0.25 holds out a quarter of --train');
    return { ...holdOut(whole, split, seed), pairs: whole.length, close: () => whole.close() };
  } catch (error) {
    await whole.close();
    throw error;
  }
}

async function readSet(source: DenseSource, what: string, context: EvaluationContext): Promise<DenseSet> {
  return openDenseSet(source, (done) => context.progress(what, done, source.length));
}

/** The classes of both sets: the list that comes with the data, else numbers. */
function classesOf({ train, test }: Sources, trainSet: DenseSet, testSet: DenseSet): readonly string[] {
  const known = train.classNames ?? test.classNames;
  const classes = known?.length ?? Math.max(trainSet.highestLabel, testSet.highestLabel) + 1;
  if (train.classNames && test.classNames && train.classNames.join('\n') !== test.classNames.join('\n')) {
    throw new DataError(
      `${train.path} and ${test.path} name different classes (${train.classNames.length} and ${test.classNames.length}): ` +
        'give one list with --classes',
    );
  }
  const highest = Math.max(trainSet.highestLabel, testSet.highestLabel);
  if (highest >= classes) {
    throw new DataError(
      `the label ${highest} is in the masks, but there are ${classes} classes: name all in classes.json`,
    );
  }
  return known ?? Array.from({ length: classes }, (_, label) => `class ${label}`);
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** @throws UsageError for a crop that the patches do not divide */
function withAsked(usual: PixelSizes, { crop, shorterSide }: PixelRequest, multiple: number): PixelSizes {
  const sizes = { crop: crop ?? usual.crop, shorterSide: shorterSide ?? usual.shorterSide };
  for (const side of sizes.crop) {
    if (side % multiple !== 0) {
      const nearest = Math.max(Math.round(side / multiple), 1) * multiple;
      throw new UsageError(`--crop ${side} does not divide into patches of ${multiple}: use ${nearest}`);
    }
  }
  return sizes;
}

async function headConfig(
  { task, protocol, range }: PixelTaskDefinition,
  model: FrozenModel,
  found: {
    readonly classNames: readonly string[];
    readonly channels: number;
    readonly sizes: PixelSizes;
    readonly set: DenseSet;
  },
): Promise<PixelHeadConfig> {
  return {
    task,
    protocol,
    dim: model.dim,
    blocks: protocolBlocks(protocol, model.depth),
    classNames: [...found.classNames],
    min: range[0],
    max: range[1],
    channels: found.channels,
    crop: [...found.sizes.crop],
    // Pictures from above have a scale on the ground, which must stay; others are seen as large as in training.
    shorterSide: found.sizes.shorterSide ?? (task === 'canopy' ? null : found.set.medianSize.shorter),
    model: {
      name: model.name,
      patchSize: model.patchSize,
      depth: model.depth,
      fingerprint: await fingerprint(model),
    },
  };
}

/** Places of the test pictures that a page shows, spread over the set. */
function samplesOf(count: number): number[] {
  const shown = Math.min(count, SAMPLES_SHOWN);
  return Array.from({ length: shown }, (_, i) => Math.floor(((i + 0.5) * count) / shown));
}

/** `data/camvid/train.tar` and `data/camvid/train` are of `camvid`. */
function datasetName(path: string): string {
  const name = basename(path).replace(/\.(tar|zip)$/i, '');
  return /^(train|training|val|test)$/i.test(name) ? basename(dirname(path)) || name : name;
}

/** The multiple of `multiple` nearest to `side` that is not larger, at least one. */
export function wholePatches(side: number, multiple: number): number {
  return Math.max(Math.floor(side / multiple), 1) * multiple;
}
