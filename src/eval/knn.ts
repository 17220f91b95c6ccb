/**
 * k-nearest-neighbour classification of frozen features, the official protocol (spec §6.2): cosine similarities, the
 * softmax of the nearest ones at temperature 0.07 as votes, top-1 and top-5 for several k at once.
 */

import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type Neighbours, nearestRows, rowsOf } from './nearest_rows.js';
import { TorchRandom } from './torch_random.js';

export const KNN_TEMPERATURE = 0.07;
/** The official numbers of neighbours. */
export const KNN_NEIGHBOURS = [10, 20, 100, 200] as const;

export interface LabelledFeatures {
  /** [n, dim], not normalised. */
  readonly features: Float32Array;
  /** [n], whole numbers from 0. */
  readonly labels: readonly number[];
}

export interface KnnOptions {
  readonly train: LabelledFeatures;
  readonly test: LabelledFeatures;
  readonly dim: number;
  /** Numbers of neighbours; more than there are training pictures count as all of them. Default 10, 20, 100, 200. */
  readonly k?: readonly number[];
  /** Default 0.07. */
  readonly temperature?: number;
}

export interface KnnScore {
  /** As asked. */
  readonly k: number;
  /** Neighbours that voted: `k`, or the training pictures where they are fewer. */
  readonly neighbours: number;
  /** Percent of the test pictures. */
  readonly top1: number;
  readonly top5: number;
}

/**
 * The votes of neighbours: softmax(similarities / temperature), over all of them at once.
 * @param similarities of one query, nearest first
 */
export function knnWeights(similarities: ArrayLike<number>, temperature: number): Float64Array {
  const weights = new Float64Array(similarities.length);
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    weights[i] = Math.exp((similarities[i] - similarities[0]) / temperature);
    sum += weights[i];
  }
  for (let i = 0; i < weights.length; i++) weights[i] /= sum;
  return weights;
}

/**
 * The `k` training rows of largest cosine similarity for every query, of features in memory; see `nearestRows`.
 * @param queries [m, dim], not normalised
 * @param train [n, dim], not normalised
 * @param k capped at n
 * @throws WebdinoError for features that are not finite; UsageError for none at all
 */
export async function nearestNeighbours(
  gpu: Gpu,
  queries: Float32Array,
  train: Float32Array,
  dim: number,
  k: number,
): Promise<Neighbours> {
  const [m, n] = [queries.length / dim, train.length / dim];
  if (!Number.isInteger(m) || !Number.isInteger(n) || m < 1 || n < 1) {
    throw new UsageError(
      `kNN over ${n} training rows and ${m} queries of ${dim} features: give whole rows, one at least`,
    );
  }
  return nearestRows(gpu, rowsOf(queries, dim), rowsOf(train, dim), k);
}

/**
 * kNN accuracy for every `k` (spec §6.2): the votes are one softmax over the largest number of neighbours; classes are
 * 0 … the largest training label. Classes with equal votes rank by their number; a test label beyond them is never right.
 * @throws UsageError for empty features, labels that do not fit them, or a `k` that is no positive integer
 */
export async function knnAccuracy(gpu: Gpu, options: KnnOptions): Promise<KnnScore[]> {
  const { train, test, dim, k: wanted = KNN_NEIGHBOURS, temperature = KNN_TEMPERATURE } = options;
  for (const [name, set] of Object.entries({ train, test })) {
    if (set.features.length !== set.labels.length * dim) {
      throw new UsageError(`${name}: ${set.labels.length} labels for ${set.features.length / dim} rows of features`);
    }
    const wrong = set.labels.find((label) => !Number.isInteger(label) || label < 0);
    if (wrong !== undefined) throw new UsageError(`${name}: ${wrong} is not a label; labels are integers from 0`);
  }
  const ks = [...new Set(wanted)].sort((a, b) => a - b);
  if (ks.length === 0 || ks.some((k) => !Number.isInteger(k) || k < 1)) {
    throw new UsageError(`k is ${wanted.join(', ') || 'empty'}; give whole numbers from 1`);
  }
  if (!(temperature > 0)) throw new UsageError(`the temperature is ${temperature}; it must be positive`);
  const nearest = await nearestNeighbours(gpu, test.features, train.features, dim, ks[ks.length - 1]);
  const steps = ks.map((k) => ({ k, neighbours: Math.min(k, nearest.k), top1: 0, top5: 0 }));
  forEachVote(nearest, train.labels, { k: ks, temperature }, (query, step, votes) => {
    const rank = rankOf(votes, test.labels[query]);
    if (rank < 1) steps[step].top1++;
    if (rank < 5) steps[step].top5++;
  });
  const percent = (count: number): number => (100 * count) / test.labels.length;
  return steps.map((step) => ({ ...step, top1: percent(step.top1), top5: percent(step.top5) }));
}

/**
 * The votes of every query for every number of neighbours: one softmax over all neighbours, summed by class over the first k.
 * @param labels of the training rows
 * @param k rising; counts beyond the neighbours mean all of them
 * @param visit called for each query with each step of `k` in turn; votes f64 [largest label + 1], reused
 */
export function forEachVote(
  nearest: Neighbours,
  labels: ArrayLike<number>,
  { k: ks, temperature }: { readonly k: readonly number[]; readonly temperature: number },
  visit: (query: number, step: number, votes: Float64Array) => void,
): void {
  let classes = 0;
  for (let i = 0; i < labels.length; i++) classes = Math.max(classes, labels[i] + 1);
  const votes = new Float64Array(classes);
  const queries = nearest.indices.length / nearest.k;
  for (let query = 0; query < queries; query++) {
    const from = query * nearest.k;
    const weights = knnWeights(nearest.similarities.subarray(from, from + nearest.k), temperature);
    votes.fill(0);
    let voted = 0;
    ks.forEach((k, step) => {
      for (; voted < Math.min(k, nearest.k); voted++) votes[labels[nearest.indices[from + voted]]] += weights[voted];
      visit(query, step, votes);
    });
  }
}

/** Classes that come before `label` in the order of the votes. */
function rankOf(votes: Float64Array, label: number): number {
  if (label >= votes.length) return Number.POSITIVE_INFINITY;
  let rank = 0;
  for (let c = 0; c < votes.length; c++) {
    if (votes[c] > votes[label] || (votes[c] === votes[label] && c < label)) rank++;
  }
  return rank;
}

/**
 * The training rows of one draw: of each class in turn the first `nPerClass` of a random permutation, as PyTorch draws it
 * after `manual_seed(seed)`.
 */
export function fewShotRows(labels: ArrayLike<number>, nPerClass: number, seed: number): number[] {
  const byClass = new Map<number, number[]>();
  for (let row = 0; row < labels.length; row++) {
    const rows = byClass.get(labels[row]);
    if (rows) rows.push(row);
    else byClass.set(labels[row], [row]);
  }
  const classes = [...byClass.keys()].sort((a, b) => a - b);
  const random = new TorchRandom(seed);
  return classes.flatMap((label) => {
    const rows = byClass.get(label)!;
    return Array.from(random.permutation(rows.length).subarray(0, nPerClass), (i) => rows[i]);
  });
}

export interface FewShotOptions extends KnnOptions {
  /** Training pictures of each class that are drawn. */
  readonly nPerClass: number;
  /** Draws that the scores are averaged over. Default 1. */
  readonly nTries?: number;
}

/**
 * kNN on `nPerClass` training pictures of each class (spec §6.2, 5): try t takes the first ones of a random permutation, drawn
 * as PyTorch draws it after `manual_seed(t)`, so the same pictures as the official code for features in the same order.
 * The numbers of neighbours are those of `k`, and `nPerClass` itself, that are at most `nPerClass`.
 * @throws UsageError as `knnAccuracy`
 */
export async function fewShotKnnAccuracy(gpu: Gpu, options: FewShotOptions): Promise<KnnScore[]> {
  const { train, dim, k = KNN_NEIGHBOURS, nPerClass, nTries = 1 } = options;
  if (!Number.isInteger(nPerClass) || nPerClass < 1 || !Number.isInteger(nTries) || nTries < 1) {
    throw new UsageError(`few-shot kNN of ${nPerClass} pictures a class, ${nTries} tries: give whole numbers from 1`);
  }
  const ks = [...new Set([...k, nPerClass])].filter((neighbours) => neighbours <= nPerClass);
  let total: KnnScore[] = [];
  for (let t = 0; t < nTries; t++) {
    const chosen = fewShotRows(train.labels, nPerClass, t);
    const features = new Float32Array(chosen.length * dim);
    chosen.forEach((row, i) => {
      features.set(train.features.subarray(row * dim, (row + 1) * dim), i * dim);
    });
    const labels = chosen.map((row) => train.labels[row]);
    const scores = await knnAccuracy(gpu, { ...options, train: { features, labels }, k: ks });
    total = scores.map((score, i) => ({
      ...score,
      top1: (total[i]?.top1 ?? 0) + score.top1,
      top5: (total[i]?.top5 ?? 0) + score.top5,
    }));
  }
  return total.map((score) => ({ ...score, top1: score.top1 / nTries, top5: score.top5 / nTries }));
}
