/**
 * k-nearest-neighbour classification of frozen features, the official protocol (spec §6.2): cosine similarities, the
 * softmax of the nearest ones at temperature 0.07 as votes, top-1 and top-5 for several k at once.
 *
 * Similarities are one gemm a block of queries and training rows on the GPU; the nearest are selected on the CPU, whose heap
 * looks at each similarity once and mostly rejects it in one comparison, while the GPU makes the next block.
 */

import { UsageError, WebdinoError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import { Graph } from '../tensor/graph.js';
import { linear } from '../tensor/linear.js';
import { TorchRandom } from './torch_random.js';

/** Smallest norm that a feature is divided by (spec §6.2). */
const EPSILON = 1e-12;

/** Most rows of a block: 256 × 8192 similarities are 8 MiB to read back. */
const QUERY_ROWS = 256;
const TRAIN_ROWS = 8192;
/** Fewest: smaller blocks save nothing, and powers of two between these limits share compiled kernels among sets. */
const FEWEST_ROWS = 64;

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

export interface Neighbours {
  /** Per query. */
  readonly k: number;
  /** u32 [queries, k]: rows of the training features, nearest first; equal similarities in the order of the rows. */
  readonly indices: Uint32Array;
  /** [queries, k]: cosines. */
  readonly similarities: Float32Array;
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
 * The `k` training rows of largest cosine similarity for every query.
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
  const kept = Math.min(k, n);
  const nearest = new NearestRows(m, kept);
  const columns = alignUp(dim, 4);
  const queryRows = blockRows(gpu, m, QUERY_ROWS, columns);
  const trainRows = blockRows(gpu, n, TRAIN_ROWS, columns);
  const program = new Program(gpu, 'knn similarities');
  try {
    const queryBlock = program.input('queries', [queryRows, columns]);
    const trainBlock = program.input('train', [trainRows, columns]);
    const similarities = program.keep(linear(new Graph(program), queryBlock, trainBlock));
    await program.compile();

    let waiting: { read: Promise<Float32Array>; query: number; row: number } | undefined;
    const select = async (): Promise<void> => {
      if (!waiting) return;
      const { read, query, row } = waiting;
      const values = await read;
      for (let q = 0; q < Math.min(queryRows, m - query); q++) {
        const line = values.subarray(q * trainRows, q * trainRows + Math.min(trainRows, n - row));
        nearest.offer(query + q, line, row);
      }
    };
    for (let row = 0; row < n; row += trainRows) {
      program.write(trainBlock, normalisedRows(train, dim, row, [trainRows, columns]));
      for (let query = 0; query < m; query += queryRows) {
        program.write(queryBlock, normalisedRows(queries, dim, query, [queryRows, columns]));
        program.run();
        const read = program.readAll([similarities]).then(([values]) => values as Float32Array);
        // Awaited one block later; until then a failure must not count as unhandled.
        read.catch(() => {});
        await select();
        waiting = { read, query, row };
      }
    }
    await select();
  } finally {
    program.dispose();
  }
  return nearest.sorted();
}

/** Rows of a block: the power of two that holds all `rows`, within the limits above and what the adapter binds. */
function blockRows(gpu: Gpu, rows: number, most: number, columns: number): number {
  const bindable = Math.floor(gpu.capabilities.maxBindingSizeBytes / (4 * columns));
  return Math.min(Math.max(FEWEST_ROWS, 2 ** Math.ceil(Math.log2(rows))), most, bindable);
}

/** A block of rows from `first`, each divided by its norm; zero past the last row and past `dim`. */
function normalisedRows(
  features: Float32Array,
  dim: number,
  first: number,
  [rows, columns]: readonly [number, number],
): Float32Array {
  const block = new Float32Array(rows * columns);
  const end = Math.min(rows, features.length / dim - first);
  for (let r = 0; r < end; r++) {
    const from = (first + r) * dim;
    let squares = 0;
    for (let c = 0; c < dim; c++) squares += features[from + c] ** 2;
    if (!Number.isFinite(squares)) {
      throw new WebdinoError(`feature row ${first + r} is not finite: the model has diverged or its file is damaged`);
    }
    const scale = 1 / Math.max(Math.sqrt(squares), EPSILON);
    for (let c = 0; c < dim; c++) block[r * columns + c] = features[from + c] * scale;
  }
  return block;
}

/** The order of neighbours, last first: smaller values, and of equal ones the higher row. */
function isWorse(value: number, row: number, otherValue: number, otherRow: number): boolean {
  return value < otherValue || (value === otherValue && row > otherRow);
}

/** The best rows of every query so far: a heap each, its worst row on top. Equal values rank by the lower row. */
class NearestRows {
  private readonly values: Float32Array;
  private readonly rows: Uint32Array;
  private readonly counts: Uint32Array;

  constructor(
    private readonly queries: number,
    private readonly k: number,
  ) {
    this.values = new Float32Array(queries * k);
    this.rows = new Uint32Array(queries * k);
    this.counts = new Uint32Array(queries);
  }

  /** Offers the values of rows `firstRow`, `firstRow + 1`, …, which must follow those offered before. */
  offer(query: number, line: Float32Array, firstRow: number): void {
    const { k, values } = this;
    const base = query * k;
    let i = 0;
    for (; i < line.length && this.counts[query] < k; i++) {
      this.rise(base, this.counts[query]++, line[i], firstRow + i);
    }
    for (; i < line.length; i++) {
      // An equal value comes later, so it ranks behind what is kept.
      if (line[i] > values[base]) this.sink(base, line[i], firstRow + i);
    }
  }

  /** Puts a row at place `at`, the heap's new last, and moves what is better above it down. */
  private rise(base: number, at: number, value: number, row: number): void {
    const { values, rows } = this;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isWorse(value, row, values[base + parent], rows[base + parent])) break;
      values[base + at] = values[base + parent];
      rows[base + at] = rows[base + parent];
      at = parent;
    }
    values[base + at] = value;
    rows[base + at] = row;
  }

  /** Puts a row in place of the worst, and moves what is worse below it up. */
  private sink(base: number, value: number, row: number): void {
    const { values, rows, k } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      const other = base + child + 1;
      if (child + 1 < k && isWorse(values[other], rows[other], values[other - 1], rows[other - 1])) child++;
      const next = base + child;
      if (!isWorse(values[next], rows[next], value, row)) break;
      values[base + at] = values[next];
      rows[base + at] = rows[next];
      at = child;
    }
    values[base + at] = value;
    rows[base + at] = row;
  }

  sorted(): Neighbours {
    const { k, queries } = this;
    const indices = new Uint32Array(queries * k);
    const similarities = new Float32Array(queries * k);
    for (let q = 0; q < queries; q++) {
      const order = Array.from({ length: k }, (_, i) => q * k + i).sort(
        (a, b) => this.values[b] - this.values[a] || this.rows[a] - this.rows[b],
      );
      order.forEach((from, to) => {
        indices[q * k + to] = this.rows[from];
        similarities[q * k + to] = this.values[from];
      });
    }
    return { k, indices, similarities };
  }
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
  const classes = train.labels.reduce((most, label) => Math.max(most, label + 1), 0);
  const steps = ks.map((k) => ({ k, neighbours: Math.min(k, nearest.k), top1: 0, top5: 0 }));
  const votes = new Float64Array(classes);
  test.labels.forEach((label, query) => {
    const from = query * nearest.k;
    const weights = knnWeights(nearest.similarities.subarray(from, from + nearest.k), temperature);
    votes.fill(0);
    let voted = 0;
    for (const step of steps) {
      for (; voted < step.neighbours; voted++) votes[train.labels[nearest.indices[from + voted]]] += weights[voted];
      const rank = rankOf(votes, label);
      if (rank < 1) step.top1++;
      if (rank < 5) step.top5++;
    }
  });
  const percent = (count: number): number => (100 * count) / test.labels.length;
  return steps.map((step) => ({ ...step, top1: percent(step.top1), top5: percent(step.top5) }));
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
  const byClass = new Map<number, number[]>();
  for (const [row, label] of train.labels.entries()) {
    const rows = byClass.get(label);
    if (rows) rows.push(row);
    else byClass.set(label, [row]);
  }
  const classes = [...byClass.keys()].sort((a, b) => a - b);
  let total: KnnScore[] = [];
  for (let t = 0; t < nTries; t++) {
    const random = new TorchRandom(t);
    const chosen = classes.flatMap((label) => {
      const rows = byClass.get(label)!;
      return Array.from(random.permutation(rows.length).subarray(0, nPerClass), (i) => rows[i]);
    });
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
