/**
 * What a ranking is worth: average precision in its forms, precision and recall at a depth, and the micro average over all
 * pairs. Ranks count from 0; of equal similarities the lower row ranks first.
 */

/**
 * Ranks of some rows among all that count.
 * @param line similarities of one query to every row
 * @param positives rows whose ranks are wanted
 * @param excluded rows that are taken out of the ranking first: junk, the query itself
 * @returns rising
 */
export function ranksOf(line: Float32Array, positives: readonly number[], excluded: readonly number[]): Uint32Array {
  const order = [...positives].sort((a, b) => line[b] - line[a] || a - b);
  const out = new Set(excluded);
  /** Rows that rank before positive i and not before i - 1. */
  const before = new Uint32Array(order.length + 1);
  const values = order.map((row) => line[row]);
  for (let row = 0; row < line.length; row++) {
    // Most rows rank behind the last positive, or just before one of few.
    const last = values.length - 1;
    if (last < 0 || line[row] < values[last] || out.has(row)) continue;
    let [low, high] = [0, values.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const comesFirst = line[row] > values[middle] || (line[row] === values[middle] && row < order[middle]);
      if (comesFirst) high = middle;
      else low = middle + 1;
    }
    before[low]++;
  }
  let rank = 0;
  return Uint32Array.from(order, (_, i) => {
    // The positive itself is counted with those before the next one.
    rank += before[i];
    return rank;
  });
}

/** Mean over the positives of the precision down to each: the area under the stepped curve. NaN without positives. */
export function averagePrecision(ranks: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < ranks.length; i++) sum += (i + 1) / (ranks[i] + 1);
  return sum / ranks.length;
}

/**
 * The same by trapezoids, as the code of the Oxford and Paris buildings has it (Philbin et al. 2007; spec §6.7): a step of
 * recall counts the mean of the precisions before and after it.
 */
export function trapezoidAveragePrecision(ranks: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < ranks.length; i++) {
    const before = ranks[i] === 0 ? 1 : i / ranks[i];
    sum += (before + (i + 1) / (ranks[i] + 1)) / 2;
  }
  return sum / ranks.length;
}

/**
 * Share of positives among the first `depth`, or among those down to the last positive where that is fewer (the revisited
 * protocol). NaN without positives.
 */
export function precisionAt(ranks: ArrayLike<number>, depth: number): number {
  if (ranks.length === 0) return Number.NaN;
  const kept = Math.min(ranks[ranks.length - 1] + 1, depth);
  return countBelow(ranks, kept) / kept;
}

/** 1 where a positive is among the first `depth`, else 0; NaN without positives. */
export function hitAt(ranks: ArrayLike<number>, depth: number): number {
  if (ranks.length === 0) return Number.NaN;
  return Number(ranks[0] < depth);
}

function countBelow(ranks: ArrayLike<number>, bound: number): number {
  let count = 0;
  while (count < ranks.length && ranks[count] < bound) count++;
  return count;
}

/** The best rows of a line that is no longer than it must be: of equal values the lower row first. */
export function firstRows(line: Float32Array, count: number, excluded: readonly number[]): number[] {
  const out = new Set(excluded);
  const best: number[] = [];
  for (let row = 0; row < line.length; row++) {
    if (best.length === count && !(line[row] > line[best[count - 1]])) continue;
    if (out.has(row)) continue;
    let place = best.length;
    while (place > 0 && line[row] > line[best[place - 1]]) place--;
    best.splice(place, 0, row);
    if (best.length > count) best.pop();
  }
  return best;
}

/** Scored pairs of queries and references, of all queries together. */
export interface PairList {
  readonly scores: Float32Array;
  /** [pairs] */
  readonly queries: Uint32Array;
  /** [pairs]: 1 where the pair is a true one. */
  readonly positive: Uint8Array;
  /** [queries]: true pairs of each, whether they are in the list or not. */
  readonly truths: Uint32Array;
}

/** Pairs by falling score, only as far as the last true one: what follows changes nothing. */
export function rankedPairs({ scores, queries, positive, truths }: PairList): PairList {
  let lowest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < scores.length; i++) if (positive[i]) lowest = Math.min(lowest, scores[i]);
  const order = new Uint32Array(scores.reduce((count, score) => count + Number(score >= lowest), 0));
  for (let i = 0, at = 0; i < scores.length; i++) if (scores[i] >= lowest) order[at++] = i;
  order.sort((a, b) => scores[b] - scores[a]);
  return {
    scores: Float32Array.from(order, (i) => scores[i]),
    queries: Uint32Array.from(order, (i) => queries[i]),
    positive: Uint8Array.from(order, (i) => positive[i]),
    truths,
  };
}

/**
 * Micro-average precision: all pairs in one ranking, pairs of equal score at once (what scikit-learn's average_precision_score
 * gives), and the largest recall at a precision of `precision` or more.
 * @param pairs as `rankedPairs` gives them
 * @param weights how often each query counts
 */
export function microAveragePrecision(
  { scores, queries, positive, truths }: PairList,
  weights: ArrayLike<number>,
  precision = 0.9,
): { readonly averagePrecision: number; readonly recall: number } {
  let total = 0;
  for (let q = 0; q < truths.length; q++) total += weights[q] * truths[q];
  let [right, seen, counted, sum, recall] = [0, 0, 0, 0, 0];
  for (let i = 0; i < scores.length; i++) {
    const weight = weights[queries[i]];
    seen += weight;
    if (positive[i]) right += weight;
    if (i + 1 < scores.length && scores[i + 1] === scores[i]) continue;
    if (right > counted) sum += ((right - counted) * right) / seen;
    if (seen > 0 && right / seen >= precision) recall = right / total;
    counted = right;
  }
  return { averagePrecision: sum / total, recall };
}
