/**
 * What a classifier's scores are worth: accuracies, calibration, the confusion of classes and the worst mistakes, with
 * bootstrap intervals and margins. One report for kNN, logistic regression, linear probes and fine-tuning (spec §6.1).
 */

import { evalCrop } from '../data/augment.js';
import { readRgb } from '../data/decode.js';
import { WebdinoError } from '../errors.js';
import { bootstrapDraws, bootstrapMetric, interval, pairedMargin } from './bootstrap.js';
import type { FrozenModel } from './frozen_model.js';
import { datasetName, type LabelledPair } from './labelled_pair.js';
import type { EvaluationReport, Figure, Margin, Metric, ModelResult } from './result.js';
import type { EvaluationContext } from './task.js';

/** What one classifier says of the pictures of a test set. */
export interface Predictions {
  /** [n]: places in the test source. */
  readonly indices: readonly number[];
  /** [n]: the truth. */
  readonly labels: Int32Array;
  /** [n, k], k = min(5, classes that may be predicted): the best first, of equal ones the lower class. */
  readonly top: Int32Array;
  /** [n] in 0..1, of the first: calibration is reported where it is given. */
  readonly confidence?: Float32Array;
}

/** Most classes that an accuracy looks at. */
const MOST_TOP = 5;

export interface ScoresRequest {
  /** [n, classes], higher is better. */
  readonly scores: Float32Array;
  readonly classes: number;
  /** [n] */
  readonly labels: Int32Array;
  /** [n]: places in the test source. */
  readonly indices: readonly number[];
  /** How sure a classifier is: the softmax of its logits, or a score's share of the sum of scores that are all >= 0. */
  readonly confidence?: 'softmax' | 'share';
  /** Classes that may be predicted, as where a test set knows only some. Default: all. */
  readonly among?: readonly number[];
}

/**
 * The best classes of each picture. A score that is no number counts as the lowest.
 * @throws WebdinoError for arrays whose sizes do not fit, a label outside the classes, or a class twice in `among`
 */
export function predictionsFromScores(request: ScoresRequest): Predictions {
  const { scores, classes, labels, indices, confidence, among } = request;
  const n = labels.length;
  if (scores.length !== n * classes || indices.length !== n) {
    throw new WebdinoError(
      `${scores.length} scores and ${indices.length} places for ${n} pictures of ${classes} classes`,
    );
  }
  checkLabels(labels, classes);
  const allowed = among ? [...among].sort((a, b) => a - b) : Array.from({ length: classes }, (_, c) => c);
  if (allowed.some((c, i) => !(c >= 0 && c < classes) || c === allowed[i - 1]) || allowed.length === 0) {
    throw new WebdinoError(`classes ${allowed.slice(0, 5).join(', ')}: give each of 0 to ${classes - 1} at most once`);
  }
  const k = Math.min(MOST_TOP, allowed.length);
  const top = new Int32Array(n * k);
  const sure = confidence && new Float32Array(n);
  const best = new Float64Array(k);
  for (let i = 0; i < n; i++) {
    let found = 0;
    for (const c of allowed) {
      const score = scores[i * classes + c];
      const value = Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score;
      // Classes come in order, so that an equal score stays behind.
      let place = found;
      while (place > 0 && value > best[place - 1]) place--;
      if (place >= k) continue;
      found = Math.min(found + 1, k);
      for (let j = found - 1; j > place; j--) {
        best[j] = best[j - 1];
        top[i * k + j] = top[i * k + j - 1];
      }
      best[place] = value;
      top[i * k + place] = c;
    }
    if (!sure) continue;
    let sum = 0;
    for (const c of allowed) {
      const score = scores[i * classes + c];
      if (!Number.isNaN(score)) sum += confidence === 'softmax' ? Math.exp(score - best[0]) : score;
    }
    const share = (confidence === 'softmax' ? 1 : best[0]) / sum;
    sure[i] = Number.isFinite(share) ? Math.min(Math.max(share, 0), 1) : 0;
  }
  return { indices, labels, top, ...(sure ? { confidence: sure } : {}) };
}

/** @throws WebdinoError for a label that is no class */
function checkLabels(labels: ArrayLike<number>, classes: number): void {
  for (let i = 0; i < labels.length; i++) {
    if (!(Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] < classes)) {
      throw new WebdinoError(`picture ${i} has the label ${labels[i]}; classes are 0 to ${classes - 1}`);
    }
  }
}

/** [n]: 1 where the truth is among the first `k`. */
export function topHits({ labels, top }: Predictions, k: number): Uint8Array {
  const width = top.length / Math.max(labels.length, 1);
  return Uint8Array.from(labels, (label, i) =>
    Number(top.subarray(i * width, i * width + Math.min(k, width)).includes(label)),
  );
}

/**
 * Multi-label hits as ImageNet-ReaL counts them: right where any of the first `k` predictions is a valid class.
 * @param valid the valid classes of each picture, padded with -1
 * @returns [n]: 1 right, 0 wrong, -1 for a picture without a valid class, which does not count
 */
export function multiLabelHits(
  { labels, top }: Predictions,
  valid: readonly (readonly number[])[],
  k: number,
): Int8Array {
  if (valid.length !== labels.length) {
    throw new WebdinoError(`valid classes of ${valid.length} pictures for predictions of ${labels.length}`);
  }
  const width = top.length / Math.max(labels.length, 1);
  return Int8Array.from(valid, (classes, i) => {
    if (!classes.some((c) => c >= 0)) return -1;
    const first = top.subarray(i * width, i * width + Math.min(k, width));
    return Number(first.some((c) => classes.includes(c)));
  });
}

/** Bins of confidence that the expected calibration error is taken over (Guo et al. 2017). */
const CALIBRATION_BINS = 15;

/** Statistics of a sample of pictures, in the numbers that a table shows. */
type Statistic = (sample: ArrayLike<number>) => number;

interface NamedStatistic extends Pick<Metric, 'name' | 'unit' | 'better'> {
  readonly statistic: Statistic;
  /** Grows with the noise of a draw, so that an interval from draws would lie above the value: it gets none. */
  readonly biased?: true;
}

/** Mean of `hits` over a sample, in percent; pictures of -1 do not count. */
function percentOf(hits: ArrayLike<number>): Statistic {
  return (sample) => {
    let right = 0;
    let counted = 0;
    for (let i = 0; i < sample.length; i++) {
      const hit = hits[sample[i]];
      if (hit < 0) continue;
      counted++;
      right += hit;
    }
    return (100 * right) / counted;
  };
}

/** Mean over the classes that the sample holds of the share of their pictures that are right, in percent. */
function perClassPercent(labels: Int32Array, hits: ArrayLike<number>): Statistic {
  const classes = labels.reduce((most, label) => Math.max(most, label + 1), 0);
  const right = new Float64Array(classes);
  const counts = new Float64Array(classes);
  return (sample) => {
    right.fill(0);
    counts.fill(0);
    for (let i = 0; i < sample.length; i++) {
      const label = labels[sample[i]];
      counts[label]++;
      right[label] += hits[sample[i]];
    }
    let sum = 0;
    let present = 0;
    for (let c = 0; c < classes; c++) {
      if (counts[c] === 0) continue;
      present++;
      sum += right[c] / counts[c];
    }
    return (100 * sum) / present;
  };
}

/** Expected calibration error over bins of equal width, in percent: how far confidence and accuracy lie apart. */
function calibrationError(confidence: Float32Array, hits: ArrayLike<number>): Statistic {
  const sums = new Float64Array(CALIBRATION_BINS);
  return (sample) => {
    sums.fill(0);
    for (let i = 0; i < sample.length; i++) {
      const sure = confidence[sample[i]];
      const bin = Math.min(Math.floor(sure * CALIBRATION_BINS), CALIBRATION_BINS - 1);
      sums[bin] += hits[sample[i]] - sure;
    }
    let total = 0;
    for (const sum of sums) total += Math.abs(sum);
    return (100 * total) / sample.length;
  };
}

function statisticsOf(
  predictions: Predictions,
  { headline = 'top1', multiLabels }: Pick<ClassificationRequest, 'headline' | 'multiLabels'>,
): NamedStatistic[] {
  const { labels, confidence, indices } = predictions;
  const hits = topHits(predictions, 1);
  const percent = (name: string, statistic: Statistic): NamedStatistic => ({
    name,
    unit: '%',
    better: 'higher',
    statistic,
  });
  const top1 = percent('top1', percentOf(hits));
  const perClass = percent('meanPerClass', perClassPercent(labels, hits));
  const list = headline === 'top1' ? [top1] : [perClass, top1];
  // Of five classes or fewer the first five always hold the truth.
  if (predictions.top.length >= MOST_TOP * labels.length)
    list.push(percent('top5', percentOf(topHits(predictions, MOST_TOP))));
  if (headline === 'top1') list.push(perClass);
  if (multiLabels) {
    const valid = indices.map(multiLabels);
    list.push(percent('real', percentOf(multiLabelHits(predictions, valid, 1))));
  }
  if (confidence) {
    list.push({ name: 'ece', unit: '%', better: 'lower', statistic: calibrationError(confidence, hits), biased: true });
  }
  return list;
}

export interface ClassifiedModel {
  readonly model: Pick<FrozenModel, 'name' | 'floor'>;
  readonly predictions: Predictions;
  readonly chosen?: ModelResult['chosen'];
}

export interface ClassificationRequest {
  /** The verb: `knn`, `linear`. */
  readonly task: string;
  readonly pair: Pick<LabelledPair, 'train' | 'test' | 'classes' | 'classNames'>;
  /** In the order of the context's models. */
  readonly models: readonly ClassifiedModel[];
  /** The metric that stands first. Default `top1`. */
  readonly headline?: 'top1' | 'meanPerClass';
  /** Pictures learned from. Default: all of the training source. */
  readonly trainPictures?: number;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly notes: readonly string[];
  /** `performance.now()` when the evaluation began. */
  readonly startMs: number;
  /** The valid classes of a test picture, where it can show several things (ImageNet-ReaL); -1 pads. */
  readonly multiLabels?: (index: number) => readonly number[];
}

/** Rows of the gallery of mistakes, and classes that the bars name at most. */
const MISTAKES = 12;
const MOST_BARS = 40;

/**
 * The whole report: metrics with intervals for every model, margins of the first against each other one, figures of the
 * first.
 * @throws WebdinoError where the models were not asked about the same pictures
 */
export async function classificationReport(
  context: Pick<EvaluationContext, 'seed' | 'bootstrapDraws' | 'crop' | 'resize'>,
  request: ClassificationRequest,
): Promise<EvaluationReport> {
  const { task, pair, models, settings, startMs } = request;
  const [first] = models;
  const { indices } = first.predictions;
  for (const { model, predictions } of models) {
    checkLabels(predictions.labels, pair.classes);
    if (predictions.indices.length !== indices.length || predictions.indices.some((index, i) => index !== indices[i])) {
      throw new WebdinoError(`${first.model.name} and ${model.name} were asked about different pictures`);
    }
  }
  const draws = bootstrapDraws(indices.length, context.bootstrapDraws, context.seed);
  const everything = Uint32Array.from({ length: indices.length }, (_, i) => i);
  const judged = models.map(({ model, predictions, chosen }) => {
    const statistics = statisticsOf(predictions, request);
    const values = statistics.map(({ statistic, biased }) => (biased ? undefined : bootstrapMetric(draws, statistic)));
    const metrics = statistics.map(
      ({ name, unit, better, statistic }, m): Metric => ({
        name,
        value: statistic(everything),
        unit,
        better,
        ...(values[m] ? { interval: interval(values[m]) } : {}),
      }),
    );
    const result: ModelResult = { model: model.name, floor: model.floor, metrics, ...(chosen ? { chosen } : {}) };
    return { result, headline: values[0]! };
  });
  const [own, ...others] = judged;
  const margins: Margin[] = others.map(({ result, headline }) =>
    pairedMargin(own.result.model, result.model, own.result.metrics[0], result.metrics[0], own.headline, headline),
  );
  const seen = new Set(first.predictions.labels);
  const unseen = pair.classNames.filter((_, label) => !seen.has(label));
  const notes = [...request.notes];
  if (unseen.length > 0) {
    const named = unseen.slice(0, 3).join(', ') + (unseen.length > 3 ? ', ...' : '');
    notes.push(
      `${unseen.length} of ${pair.classes} classes have no test picture (${named}): means over classes leave them out`,
    );
  }
  return {
    task,
    dataset: datasetName(pair.train.path),
    train: { path: pair.train.path, pictures: request.trainPictures ?? pair.train.length },
    test: { path: pair.test.path, pictures: indices.length },
    settings,
    models: judged.map(({ result }) => result),
    margins,
    figures: await figuresOf(context, pair, first),
    notes,
    seconds: (performance.now() - startMs) / 1000,
  };
}

async function figuresOf(
  { crop, resize }: Pick<EvaluationContext, 'crop' | 'resize'>,
  pair: ClassificationRequest['pair'],
  { model, predictions }: ClassifiedModel,
): Promise<Figure[]> {
  const { labels, top, confidence, indices } = predictions;
  const width = top.length / labels.length;
  const hits = topHits(predictions, 1);
  const { classes, classNames } = pair;
  const counts = new Float64Array(classes * classes);
  for (let i = 0; i < labels.length; i++) counts[labels[i] * classes + top[i * width]]++;
  const bars = classNames.flatMap((label, c) => {
    let all = 0;
    for (let p = 0; p < classes; p++) all += counts[c * classes + p];
    return all === 0 ? [] : [{ label, value: (100 * counts[c * classes + c]) / all }];
  });
  // Of many classes the worst are shown.
  const shown = bars.length > MOST_BARS ? [...bars].sort((a, b) => a.value - b.value).slice(0, MOST_BARS) : bars;
  const which = shown.length < bars.length ? `, the ${MOST_BARS} worst of ${bars.length} classes` : '';
  const figures: Figure[] = [
    { kind: 'bars', title: `${model.name}: accuracy by class${which}`, unit: '%', bars: shown },
    { kind: 'confusion', title: `${model.name}: truth against prediction`, classNames, counts },
  ];
  if (confidence) {
    figures.push({
      kind: 'reliability',
      title: `${model.name}: confidence against accuracy`,
      confidence,
      correct: hits,
    });
  }
  const wrong = Array.from(labels.keys())
    .filter((i) => hits[i] === 0)
    .sort((a, b) => (confidence ? confidence[b] - confidence[a] : 0) || a - b)
    .slice(0, MISTAKES);
  if (wrong.length > 0) {
    const rows = wrong.map(async (i) => {
      const data = evalCrop(await readRgb(pair.test, indices[i]), resize, crop);
      const sure = confidence ? `, ${(100 * confidence[i]).toFixed(0)} %` : '';
      return {
        caption: `${classNames[labels[i]]}, taken for ${classNames[top[i * width]]}${sure}`,
        pictures: [{ caption: pair.test.name(indices[i]), picture: { width: crop, height: crop, data } }],
      };
    });
    const title = `${model.name}: ${confidence ? 'the most confident mistakes' : 'mistakes'}`;
    figures.push({ kind: 'gallery', title, rows: await Promise.all(rows) });
  }
  return figures;
}
