/** `eval knn`: the official kNN protocol (spec §6.2) on every model, for all numbers of neighbours. */

import { join } from 'node:path';
import { UsageError } from '../errors.js';
import { bootstrapDraws, bootstrapMetric, interval, pairedMargin } from './bootstrap.js';
import { type ClassifiedModel, classificationReport, type Predictions } from './classification.js';
import { FeatureFile } from './feature_file.js';
import type { FrozenModel } from './frozen_model.js';
import { forEachBatch, openGlobalReader, readGlobalFeatures } from './global_features.js';
import { fewShotRows, forEachVote, KNN_NEIGHBOURS, KNN_TEMPERATURE, type KnnScore } from './knn.js';
import type { LabelledPair } from './labelled_pair.js';
import { nearestRows, type RowReader, rowsOf } from './nearest_rows.js';
import type { EvaluationReport, Margin, Metric, ModelResult } from './result.js';
import type { EvaluationContext } from './task.js';

const MEMORY_BYTES = 2 ** 30;

const MOST_TOP = 5;

export interface KnnRequest {
  readonly pair: LabelledPair;
  /** Numbers of neighbours; the smallest is the headline. Default 10, 20, 100, 200. */
  readonly k?: readonly number[];
  /** Default 0.07. */
  readonly temperature?: number;
  /** Few-shot: training pictures of each class, and draws to average over. */
  readonly nPerClass?: number;
  readonly nTries?: number;
  /** Training features beyond this go to a file of halves and are streamed from there. Default 1 GiB. */
  readonly memoryBytes?: number;
}

/** Accuracies of one kind of features. */
export interface KnnRow {
  readonly name: string;
  readonly scores: readonly KnnScore[];
}

export interface KnnReport extends EvaluationReport {
  readonly rows: readonly KnnRow[];
}

/** What one model's neighbours say. */
interface Voted {
  readonly model: FrozenModel;
  /** Of the headline's k, in the first draw. */
  readonly predictions: Predictions;
  readonly neighbours: readonly number[];
  /** [k][n]: share of the draws in which the truth is the first, and among the first five. */
  readonly top1: readonly Float64Array[];
  readonly top5: readonly Float64Array[];
}

/**
 * @throws UsageError for numbers of neighbours or draws that cannot be; DataError if every picture is corrupt
 */
export async function evaluateKnn(context: EvaluationContext, request: KnnRequest): Promise<KnnReport> {
  const startMs = performance.now();
  const { pair, nPerClass, nTries = 1, temperature = KNN_TEMPERATURE, memoryBytes = MEMORY_BYTES } = request;
  if (!(temperature > 0)) throw new UsageError(`the temperature is ${temperature}; it must be positive`);
  const ks = neighbourCounts(request);
  const voted: Voted[] = [];
  for (const [m, model] of context.models.entries()) {
    voted.push(await vote(context, model, m, { pair, ks, temperature, nPerClass, nTries, memoryBytes }));
  }

  const [first] = voted;
  const notes: string[] = [];
  const capped = first.neighbours.findIndex((neighbours, i) => neighbours < ks[i]);
  if (capped >= 0) {
    notes.push(
      `there are ${first.neighbours[capped]} training pictures: larger k count as ${first.neighbours[capped]}`,
    );
  }
  if (nPerClass !== undefined) {
    notes.push(
      `few-shot: ${nPerClass} training pictures of each class, averaged over ${nTries} ${nTries === 1 ? 'draw' : 'draws'}; ` +
        'figures show the first',
    );
  }
  const headline = await classificationReport(context, {
    task: 'knn',
    pair,
    models: voted.map(({ model, predictions }): ClassifiedModel => ({ model, predictions })),
    settings: { k: ks, temperature, ...(nPerClass === undefined ? {} : { nPerClass, nTries }) },
    notes,
    startMs,
  });
  const samples = first.predictions.labels.length;
  const draws = bootstrapDraws(samples, context.bootstrapDraws, context.seed);
  const judged = voted.map((one, m) => {
    const hits = ks.flatMap((k, i) => [
      { name: `k=${k} top1`, hits: one.top1[i] },
      ...(pair.classes > MOST_TOP ? [{ name: `k=${k} top5`, hits: one.top5[i] }] : []),
    ]);
    const values = hits.map(({ hits: share }) => bootstrapMetric(draws, (sample) => percent(share, sample)));
    const metrics = hits.map(
      ({ name, hits: share }, i): Metric => ({
        name,
        value: percent(share),
        unit: '%',
        better: 'higher',
        interval: interval(values[i]),
      }),
    );
    // Means over classes and calibration are of the headline's k; an average of draws has neither.
    const others =
      nPerClass === undefined ? headline.models[m].metrics.filter(({ name }) => !/^top\d$/.test(name)) : [];
    const result: ModelResult = {
      ...headline.models[m],
      metrics: [...metrics, ...others.map((metric) => ({ ...metric, name: `k=${ks[0]} ${metric.name}` }))],
    };
    return { result, values: values[0] };
  });
  const margins = judged
    .slice(1)
    .map(
      ({ result, values }): Margin =>
        pairedMargin(
          judged[0].result.model,
          result.model,
          judged[0].result.metrics[0],
          result.metrics[0],
          judged[0].values,
          values,
        ),
    );
  return {
    ...headline,
    models: judged.map(({ result }) => result),
    margins,
    rows: voted.map(({ model, neighbours, top1, top5 }) => ({
      name: model.name,
      scores: ks.map((k, i) => ({ k, neighbours: neighbours[i], top1: percent(top1[i]), top5: percent(top5[i]) })),
    })),
    seconds: (performance.now() - startMs) / 1000,
  };
}

/** Rising numbers of neighbours; of few-shot draws those of at most `nPerClass`, and that itself (spec §6.2, 5). */
function neighbourCounts({ k: wanted = KNN_NEIGHBOURS, nPerClass, nTries = 1 }: KnnRequest): number[] {
  if (wanted.length === 0 || wanted.some((k) => !Number.isInteger(k) || k < 1)) {
    throw new UsageError(`k is ${wanted.join(', ') || 'empty'}; give whole numbers from 1`);
  }
  const ks = [...new Set(wanted)];
  if (nPerClass === undefined) return ks.sort((a, b) => a - b);
  if (!Number.isInteger(nPerClass) || nPerClass < 1 || !Number.isInteger(nTries) || nTries < 1) {
    throw new UsageError(`few-shot kNN of ${nPerClass} pictures a class, ${nTries} tries: give whole numbers from 1`);
  }
  return [...new Set([...ks, nPerClass])].filter((k) => k <= nPerClass).sort((a, b) => a - b);
}

async function vote(
  context: EvaluationContext,
  model: FrozenModel,
  m: number,
  {
    pair,
    ks,
    temperature,
    nPerClass,
    nTries,
    memoryBytes,
  }: {
    readonly pair: LabelledPair;
    readonly ks: readonly number[];
    readonly temperature: number;
    readonly nPerClass?: number;
    readonly nTries: number;
    readonly memoryBytes: number;
  },
): Promise<Voted> {
  const train = await trainingRows(context, model, m, pair, memoryBytes);
  try {
    const test = await readGlobalFeatures(context, model, pair.test, {
      lastBlocks: 1,
      patchMean: false,
      labelOf: pair.labelOf,
      what: `${model.name}: test pictures`,
    });
    const queries = rowsOf(test.cls[0], test.dim);
    const { labels, indices } = test;
    const n = labels.length;
    const shares = (): Float64Array[] => ks.map(() => new Float64Array(n));
    const [top1, top5] = [shares(), shares()];
    const tries = nPerClass === undefined ? 1 : nTries;
    let neighbours: number[] = [];
    let predictions: Predictions | undefined;
    for (let t = 0; t < tries; t++) {
      const chosen = nPerClass === undefined ? undefined : fewShotRows(train.labels, nPerClass, t);
      const database = chosen ? await someRows(train.rows, chosen) : train.rows;
      const databaseLabels = chosen ? chosen.map((row) => train.labels[row]) : train.labels;
      const nearest = await nearestRows(context.gpu, queries, database, ks[ks.length - 1], {
        onProgress: (done) => context.progress(`${model.name}: nearest neighbours`, done, database.rows),
      });
      neighbours = ks.map((k) => Math.min(k, nearest.k));
      const width = Math.min(MOST_TOP, largest(databaseLabels) + 1);
      const top = new Int32Array(n * width);
      const confidence = new Float32Array(n);
      forEachVote(nearest, databaseLabels, { k: ks, temperature }, (query, step, votes) => {
        const best = bestClasses(votes, width);
        if (best[0] === labels[query]) top1[step][query] += 1 / tries;
        if (best.includes(labels[query])) top5[step][query] += 1 / tries;
        if (step > 0 || t > 0) return;
        top.set(best, query * width);
        confidence[query] = votes[best[0]] / votes.reduce((sum, share) => sum + share, 0);
      });
      predictions ??= { indices, labels, top, confidence };
    }
    return { model, predictions: predictions!, neighbours, top1, top5 };
  } finally {
    train.close();
  }
}

function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]);
  return most;
}

/** The classes of the most votes, of equal ones the lower. */
function bestClasses(votes: Float64Array, count: number): number[] {
  const best: number[] = [];
  for (let c = 0; c < votes.length; c++) {
    let place = best.length;
    while (place > 0 && votes[c] > votes[best[place - 1]]) place--;
    if (place >= count) continue;
    best.splice(place, 0, c);
    if (best.length > count) best.pop();
  }
  return best;
}

/** The training set's features, in memory or, where they are many, on disk. */
async function trainingRows(
  context: EvaluationContext,
  model: FrozenModel,
  m: number,
  { train }: LabelledPair,
  memoryBytes: number,
): Promise<{ rows: RowReader; labels: ArrayLike<number>; close: () => void }> {
  const what = `${model.name}: training pictures`;
  if (4 * train.length * model.dim <= memoryBytes) {
    const { cls, dim, labels } = await readGlobalFeatures(context, model, train, {
      lastBlocks: 1,
      patchMean: false,
      what,
    });
    return { rows: rowsOf(cls[0], dim), labels, close: () => {} };
  }
  const reader = await openGlobalReader(model, {
    crop: context.crop,
    batch: context.batch,
    lastBlocks: 1,
    patchMean: false,
  });
  try {
    const file = FeatureFile.create(join(context.cacheFolder, `knn-${m}`), reader.columns);
    try {
      const labels: number[] = [];
      await forEachBatch(context, reader, train, { what }, (rows, batch) => {
        file.append(rows);
        for (const place of batch) labels.push(train.label(place)!);
      });
      return { rows: file, labels, close: () => file.close() };
    } catch (error) {
      file.close();
      throw error;
    }
  } finally {
    reader.dispose();
  }
}

async function someRows(rows: RowReader, chosen: readonly number[]): Promise<RowReader> {
  const { columns } = rows;
  const features = new Float32Array(chosen.length * columns);
  for (const [i, row] of chosen.entries())
    features.set((await rows.readRange(row, 1)).subarray(0, columns), i * columns);
  return rowsOf(features, columns);
}

/** Mean of some pictures' shares, in percent. */
function percent(shares: Float64Array, sample?: Uint32Array): number {
  let sum = 0;
  if (sample) for (const i of sample) sum += shares[i];
  else for (const share of shares) sum += share;
  return (100 * sum) / (sample ?? shares).length;
}
