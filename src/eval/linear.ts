/**
 * Linear probing (spec §6.3): a grid of linear classifiers on frozen features, trained together by SGD, of which the best on
 * a selection set is reported. 13 learning rates × {1, 4} last blocks × {without, with} the mean patch token = 52.
 *
 * As in the official code that set is by default the one that is reported, which is optimistic: `selection` or `holdOut`
 * choose on other pictures. Features of every batch come through the network from fresh random crops (`augment`), or once
 * from the evaluation transform, which costs one pass over the set and a little accuracy.
 */

import { join } from 'node:path';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import { ShardedInfiniteSampler } from '../data/sampler.js';
import type { ImageSource } from '../data/source.js';
import { UsageError } from '../errors.js';
import { type ClassifiedModel, classificationReport, predictionsFromScores } from './classification.js';
import { FeatureFile } from './feature_file.js';
import type { FrozenModel } from './frozen_model.js';
import { forEachBatch, type GlobalReader, openGlobalReader } from './global_features.js';
import type { LabelledPair } from './labelled_pair.js';
import { BLOCK_CHOICES, headGrid, type LinearHead, LinearHeads } from './linear_heads.js';
import type { EvaluationReport, Figure } from './result.js';
import type { EvaluationContext } from './task.js';
import { classificationCrops, TrainingCropLoader } from './training_crops.js';

/** Official length: 10 epochs of 1250 iterations. */
export const OFFICIAL_ITERATIONS = 12500;
export const LINEAR_BATCH = 128;
/** Without `iterations`: so many passes over the pictures, but not fewer steps than the second number. */
const USUAL_EPOCHS = 10;
const FEWEST_ITERATIONS = 1250;

/** Steps between two looks at the losses, which also keep the queue of the GPU short. */
const STEPS_BETWEEN_LOOKS = 25;

const MOST_BLOCKS = Math.max(...BLOCK_CHOICES);

export interface LinearRequest {
  readonly pair: LabelledPair;
  /** Labelled pictures that choose the head; its labels read in the training set's numbering. */
  readonly selection?: { readonly source: ImageSource; readonly labelOf: (label: number) => number };
  /** Share of the training pictures that are not learned from and choose the head. */
  readonly holdOut?: number;
  /** Whether every batch is fresh random crops through the network. */
  readonly augment: boolean;
  /** Steps. Default: 10 passes over the training pictures, at least 1250 and at most 12,500. */
  readonly iterations?: number;
  /** Pictures a step. Default 128. */
  readonly batch?: number;
  readonly baseRates: readonly number[];
  /** Whether only classes that the test set has may be predicted in the end (ImageNet-A and -R). */
  readonly onlyTestClasses?: boolean;
  /** The valid classes of a test picture, where it can show several things. */
  readonly multiLabels?: (index: number) => readonly number[];
}

/** Features of a set on disk, with their labels in the training set's numbering. */
interface StoredSet {
  readonly file: FeatureFile;
  readonly labels: Int32Array;
  readonly indices: readonly number[];
}

/** One batch to learn from. */
interface TrainingRows {
  readonly rows: Float32Array;
  readonly labels: ArrayLike<number>;
}

/** Batches to learn from, one after the other. */
interface TrainingFeed {
  next(step: number): Promise<TrainingRows>;
  /** Waits for what is under way, so that the reader can be let go. */
  settle(): Promise<void>;
}

/** What the selection and the report of one model need. */
interface Probed {
  readonly classified: ClassifiedModel;
  /** [heads]: top-1 on the selection set, percent. */
  readonly accuracies: Float64Array;
  readonly heads: readonly LinearHead[];
  readonly diverged: number;
}

/**
 * Evaluates all models with identical draws.
 * @throws UsageError for options that contradict each other or leave nothing to learn from; DataError if every picture is
 * corrupt
 */
export async function evaluateLinear(context: EvaluationContext, request: LinearRequest): Promise<EvaluationReport> {
  const startMs = performance.now();
  const { pair, selection, holdOut, augment, baseRates, onlyTestClasses = false } = request;
  const batch = request.batch ?? LINEAR_BATCH;
  if (selection && holdOut !== undefined) throw new UsageError('--val and --hold-out both choose the head: give one');
  if (baseRates.length === 0 || baseRates.some((rate) => !(rate > 0 && Number.isFinite(rate)))) {
    throw new UsageError(`learning rates ${baseRates.join(', ') || 'none'}: give positive numbers`);
  }
  const { learned, heldOut } = splitTraining(pair.train, holdOut, context.seed);
  const iterations = request.iterations ?? usualIterations(learned.length, batch);
  const notes: string[] = [];
  if (!selection && heldOut.length === 0) {
    notes.push(
      'the head is chosen on the test pictures themselves, as in the official protocol, which is optimistic: ' +
        '--val or --hold-out choose it on others',
    );
  }
  if (request.iterations === undefined && iterations !== OFFICIAL_ITERATIONS) {
    const passes = ((iterations * batch) / learned.length).toFixed(1);
    notes.push(
      `${iterations} iterations (${passes} passes over ${learned.length} pictures); the official code takes ${OFFICIAL_ITERATIONS}`,
    );
  }

  const probed: Probed[] = [];
  for (const [m, model] of context.models.entries()) {
    const one = await probe(context, request, { model, m, batch, iterations, learned, heldOut });
    probed.push(one);
    const count = one.heads.length;
    const choices = [...new Set(one.heads.map((head) => head.blocks))];
    const levels = Math.max(...choices);
    if (levels < MOST_BLOCKS) {
      const has = levels === 1 ? 'one level of features' : `${levels} blocks`;
      notes.push(`${model.name} has ${has}: ${count} heads, on the last ${choices.join(' and ')}`);
    }
    if (one.diverged > 0)
      notes.push(`${model.name}: ${one.diverged} of ${count} heads diverged, at rates too high for these features`);
  }
  const report = await classificationReport(context, {
    task: 'linear',
    pair,
    models: probed.map(({ classified }) => classified),
    trainPictures: learned.length,
    settings: {
      features: augment ? 'random resized crops through the network at every step' : 'evaluation crops, once',
      iterations,
      trainBatch: batch,
      baseRates,
      heads: probed[0].heads.length,
      selection: selection
        ? selection.source.path
        : heldOut.length > 0
          ? `${heldOut.length} training pictures held out`
          : 'test',
      onlyTestClasses,
    },
    notes,
    startMs,
    multiLabels: request.multiLabels,
  });
  return { ...report, figures: [...report.figures, headFigure(context.models[0].name, probed[0])] };
}

/** 10 passes, within bounds that make sense of very small and very large sets. */
export function usualIterations(pictures: number, batch: number): number {
  const passes = Math.ceil((USUAL_EPOCHS * pictures) / batch);
  return Math.min(Math.max(passes, FEWEST_ITERATIONS), OFFICIAL_ITERATIONS);
}

/** Places of the pictures that are learned from, and of those that only choose the head. */
function splitTraining(
  train: ImageSource,
  holdOut: number | undefined,
  seed: number,
): { learned: number[]; heldOut: number[] } {
  const all = Array.from({ length: train.length }, (_, i) => i);
  if (holdOut === undefined) return { learned: all, heldOut: [] };
  const count = Math.round(holdOut * train.length);
  if (!(holdOut > 0 && holdOut < 1) || count < 1 || count >= train.length) {
    throw new UsageError(
      `--hold-out ${holdOut} of ${train.length} pictures: give a share between 0 and 1 that leaves both parts some`,
    );
  }
  const order = new CounterRandom(seed, RandomPurpose.holdOut).permutation(train.length);
  const held = new Set(order.subarray(0, count));
  return { learned: all.filter((i) => !held.has(i)), heldOut: all.filter((i) => held.has(i)) };
}

/** Trains the grid for one model, chooses the head and asks it about the test pictures. */
async function probe(
  context: EvaluationContext,
  request: LinearRequest,
  plan: {
    readonly model: FrozenModel;
    readonly m: number;
    readonly batch: number;
    readonly iterations: number;
    readonly learned: readonly number[];
    readonly heldOut: readonly number[];
  },
): Promise<Probed> {
  const { model, m, batch, iterations, learned, heldOut } = plan;
  const { pair, selection, augment, baseRates } = request;
  const { gpu, crop, seed } = context;
  const reader = await openGlobalReader(model, {
    crop,
    batch: context.batch,
    lastBlocks: MOST_BLOCKS,
    patchMean: true,
  });
  const { levels, dim } = reader;
  const stored: StoredSet[] = [];
  const store = async (
    what: string,
    source: ImageSource,
    labelOf: (label: number) => number,
    indices?: readonly number[],
  ): Promise<StoredSet> => {
    const set = await storeFeatures(context, reader, source, {
      what,
      name: `${model.name}: ${what} features`,
      m,
      labelOf,
      indices,
    });
    stored.push(set);
    return set;
  };
  const same = (label: number): number => label;
  const heads = headGrid(levels, baseRates, batch);
  const probes = new LinearHeads(gpu, { heads, classes: pair.classes, levels, dim, batch, seed });
  let crops: TrainingCropLoader | undefined;
  let training: TrainingFeed | undefined;
  try {
    await probes.compile();
    const tested = await store('test', pair.test, pair.labelOf);
    let chosenOn = tested;
    if (selection) chosenOn = await store('selection', selection.source, selection.labelOf);
    else if (heldOut.length > 0) chosenOn = await store('held-out', pair.train, same, heldOut);
    if (augment) {
      const onBad = ({ name, reason }: { name: string; reason: string }): void => {
        if (m === 0) context.note(`left out: ${name} ${reason}`);
      };
      crops = new TrainingCropLoader(pair.train, {
        batchSize: batch,
        seed,
        settings: classificationCrops(crop),
        among: learned,
        onBad,
      });
      training = cropRows(reader, crops, pair.train, { batch, crop, iterations });
    } else {
      training = storedRows(await store('training', pair.train, same, learned), batch, seed);
    }
    await train(context, probes, training, iterations, `${model.name}: ${heads.length} linear heads`);
    const losses = await probes.lastLosses();

    const accuracies = await headAccuracies(probes, chosenOn, batch);
    // Of equal ones the first, as the official code's max does.
    const best = accuracies.indexOf(Math.max(...accuracies));
    const scores = await scoresOf(probes, best, tested, pair.classes, batch);
    const among = request.onlyTestClasses ? [...new Set(tested.labels)] : undefined;
    const { labels, indices } = tested;
    const predictions = predictionsFromScores({
      scores,
      classes: pair.classes,
      labels,
      indices,
      confidence: 'softmax',
      among,
    });
    const { name, blocks, avgpool, baseRate } = heads[best];
    const chosen = {
      head: name,
      blocks,
      avgpool,
      lr: baseRate,
      'selection top1 %': Number(accuracies[best].toFixed(2)),
    };
    const diverged = losses.filter((loss) => !Number.isFinite(loss)).length;
    return { classified: { model, predictions, chosen }, accuracies, heads, diverged };
  } finally {
    await training?.settle();
    await crops?.close();
    for (const { file } of stored) file.close();
    probes.dispose();
    reader.dispose();
  }
}

/** One pass through the evaluation transform into a file of halves. */
async function storeFeatures(
  context: EvaluationContext,
  reader: GlobalReader,
  source: ImageSource,
  set: {
    readonly what: string;
    readonly name: string;
    readonly m: number;
    readonly labelOf: (label: number) => number;
    readonly indices?: readonly number[];
  },
): Promise<StoredSet> {
  const file = FeatureFile.create(join(context.cacheFolder, `linear-${set.m}-${set.what}`), reader.columns);
  try {
    const places: number[] = [];
    // What is left out of a model's pictures is left out of all: it is said once.
    const noted = { ...context, note: (text: string) => set.m === 0 && context.note(text) };
    await forEachBatch(noted, reader, source, { indices: set.indices, what: set.name }, (rows, batch) => {
      file.append(rows);
      places.push(...batch);
    });
    return { file, labels: Int32Array.from(places, (place) => set.labelOf(source.label(place)!)), indices: places };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Batches of stored features in the training sampler's order. */
function storedRows({ file, labels }: StoredSet, batch: number, seed: number): TrainingFeed {
  const sampler = new ShardedInfiniteSampler({ length: file.rows, seed });
  return {
    next: async (step) => {
      const places = Array.from({ length: batch }, (_, slot) => sampler.at(step * batch + slot));
      return { rows: file.readRows(places), labels: places.map((place) => labels[place]) };
    },
    settle: async () => {},
  };
}

/** Batches of random crops through the network; the next one is under way while a step runs. */
function cropRows(
  reader: GlobalReader,
  crops: TrainingCropLoader,
  source: ImageSource,
  { batch, crop, iterations }: { batch: number; crop: number; iterations: number },
): TrainingFeed {
  const pictureBytes = crop * crop * 3;
  const start = async (): Promise<TrainingRows> => {
    const { pixels, indices } = await crops.next();
    const parts: Promise<Float32Array>[] = [];
    for (let from = 0; from < batch; from += reader.batch) {
      const n = Math.min(reader.batch, batch - from);
      parts.push(reader.read(pixels.subarray(from * pictureBytes, (from + n) * pictureBytes), n));
    }
    const rows = new Float32Array(batch * reader.columns);
    let at = 0;
    for (const part of await Promise.all(parts)) {
      rows.set(part, at);
      at += part.length;
    }
    return { rows, labels: Array.from(indices, (index) => source.label(index)!) };
  };
  let ahead: Promise<TrainingRows> | undefined;
  return {
    next: (step) => {
      const now = ahead ?? start();
      ahead = step + 1 < iterations ? start() : undefined;
      // It is awaited in its turn; until then a failure must not count as unhandled.
      ahead?.catch(() => {});
      return now;
    },
    settle: async () => {
      await Promise.allSettled(ahead ? [ahead] : []);
    },
  };
}

/** Cosine from the heads' rates to 0 without warm-up, stepped every iteration. */
async function train(
  context: EvaluationContext,
  probes: LinearHeads,
  feed: TrainingFeed,
  iterations: number,
  what: string,
): Promise<void> {
  context.progress(what, 0, iterations);
  for (let step = 0; step < iterations; step++) {
    const { rows, labels } = await feed.next(step);
    probes.step(rows, labels, 0.5 * (1 + Math.cos((Math.PI * step) / iterations)));
    if ((step + 1) % STEPS_BETWEEN_LOOKS === 0 || step + 1 === iterations) {
      await probes.lastLosses();
      context.progress(what, step + 1, iterations);
    }
  }
}

/** [heads]: top-1 in percent. */
async function headAccuracies(probes: LinearHeads, { file, labels }: StoredSet, batch: number): Promise<Float64Array> {
  const heads = probes.heads.length;
  const right = new Float64Array(heads);
  for (let from = 0; from < file.rows; from += batch) {
    const n = Math.min(batch, file.rows - from);
    const ranks = await probes.ranks(file.readRange(from, n), labels.subarray(from, from + n));
    for (let i = 0; i < n * heads; i++) right[i % heads] += Number(ranks[i] === 0);
  }
  return right.map((count) => (100 * count) / file.rows);
}

/** [n, classes]: logits of one head. */
async function scoresOf(
  probes: LinearHeads,
  head: number,
  { file }: StoredSet,
  classes: number,
  batch: number,
): Promise<Float32Array> {
  const scorer = await probes.openHead(head);
  try {
    const scores = new Float32Array(file.rows * classes);
    for (let from = 0; from < file.rows; from += batch) {
      scores.set(await scorer.scores(file.readRange(from, Math.min(batch, file.rows - from))), from * classes);
    }
    return scores;
  } finally {
    scorer.dispose();
  }
}

/** How much each choice of the grid matters. */
function headFigure(model: string, { heads, accuracies }: Probed): Figure {
  return {
    kind: 'bars',
    title: `${model}: top-1 of all heads on the pictures that choose`,
    unit: '%',
    bars: heads.map(({ blocks, avgpool, baseRate }, h) => ({
      label: `${blocks} ${blocks === 1 ? 'block' : 'blocks'}${avgpool ? ' + mean' : ''}, lr ${baseRate}`,
      value: accuracies[h],
    })),
  };
}
