import { readFileSync } from 'node:fs';
import test from 'tape';
import {
  averagePrecision,
  firstRows,
  hitAt,
  microAveragePrecision,
  type PairList,
  precisionAt,
  rankedPairs,
  ranksOf,
  trapezoidAveragePrecision,
} from '../../src/eval/ranking_metrics.js';
import { allClose, noise } from '../fixture.js';

/** Made by fixtures/retrieval.py with numpy and scikit-learn. */
const fixture: {
  readonly rows: number;
  readonly queries: readonly {
    readonly positives: number[];
    readonly junk: number[];
    readonly trapezoid: number;
    readonly stepped: number;
    readonly precisions: number[];
  }[];
  readonly micro: Record<'exact' | 'coarse', { readonly averagePrecision: number; readonly recallAt20: number }>;
} = JSON.parse(readFileSync(new URL('../fixtures/retrieval.json', import.meta.url), 'utf8'));

/** The formula of the fixture. */
function line(query: number): Float32Array {
  return Float32Array.from(
    { length: fixture.rows },
    (_, i) => Math.sin(1.3 * i * (query + 1) + 0.7 * query) * Math.cos(0.37 * i + query),
  );
}

test('average precision by hand', (t) => {
  // Right, wrong, right, wrong, wrong, right.
  const ranks = [0, 2, 5];
  allClose(t, [averagePrecision(ranks)], [(1 + 2 / 3 + 3 / 6) / 3], 'stepped');
  allClose(
    t,
    [trapezoidAveragePrecision(ranks)],
    [((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / 3],
    'by trapezoids',
  );
  t.equal(trapezoidAveragePrecision([0]), 1, 'the best');
  allClose(t, [trapezoidAveragePrecision([3])], [1 / 8], 'a single one at rank 4 of 4: half of 1 / 4');
  t.deepEqual(
    [1, 5, 10].map((depth) => precisionAt(ranks, depth)),
    [1, 2 / 5, 3 / 6],
    'precision, to the last positive at most',
  );
  t.deepEqual([hitAt([2], 1), hitAt([2], 3)], [0, 1], 'hits');
  for (const value of [averagePrecision([]), trapezoidAveragePrecision([]), precisionAt([], 1), hitAt([], 1)]) {
    t.ok(Number.isNaN(value), 'nothing to find: no value');
  }
  t.end();
});

test('ranksOf: junk and ties', (t) => {
  const values = Float32Array.of(0.5, 0.9, 0.5, 0.1, 0.9, 0.5);
  t.deepEqual([...ranksOf(values, [2, 4], [])], [1, 3], 'of equal values the lower row first');
  t.deepEqual([...ranksOf(values, [2, 4], [1, 0])], [0, 1], 'without what is taken out');
  t.deepEqual([...ranksOf(values, [3], [1])], [4], 'the last');
  t.deepEqual([...ranksOf(values, [], [1])], [], 'of nothing');
  t.deepEqual(firstRows(values, 3, [4]), [1, 0, 2], 'the first rows');
  t.deepEqual(firstRows(values, 9, []).length, 6, 'no more than there are');
  t.end();
});

test('ranking metrics of the fixture', (t) => {
  fixture.queries.forEach(({ positives, junk, trapezoid, stepped, precisions }, query) => {
    const ranks = ranksOf(line(query), positives, junk);
    allClose(t, [trapezoidAveragePrecision(ranks)], [trapezoid], `query ${query}: revisited protocol`, {
      absolute: 1e-9,
    });
    allClose(t, [averagePrecision(ranks)], [stepped], `query ${query}: stepped`, { absolute: 1e-9 });
    allClose(
      t,
      [1, 5, 10].map((depth) => precisionAt(ranks, depth)),
      precisions,
      `query ${query}: precisions`,
    );
  });
  t.end();
});

function pairsOf(lines: readonly Float32Array[]): PairList {
  return rankedPairs({
    scores: Float32Array.from(lines.flatMap((values) => [...values])),
    queries: Uint32Array.from(lines.flatMap((values, query) => Array.from(values, () => query))),
    positive: Uint8Array.from(
      lines.flatMap((values, query) =>
        Array.from(values, (_, row) => Number(fixture.queries[query].positives.includes(row))),
      ),
    ),
    truths: Uint32Array.from(fixture.queries, ({ positives }) => positives.length),
  });
}

test('micro-average precision: scikit-learn’s, with and without equal scores', (t) => {
  const exact = fixture.queries.map((_, query) => line(query));
  const coarse = exact.map((values) => values.map((value) => Math.round(10 * value) / 10));
  for (const [name, lines] of [
    ['exact', exact],
    ['coarse', coarse],
  ] as const) {
    const { averagePrecision: found, recall } = microAveragePrecision(pairsOf(lines), [1, 1, 1, 1, 1, 1], 0.2);
    const expected = fixture.micro[name];
    allClose(t, [found], [expected.averagePrecision], `${name}: average precision`, { absolute: 1e-9 });
    allClose(t, [recall], [expected.recallAt20], `${name}: recall at a precision of 20 %`);
  }
  t.end();
});

test('micro-average precision: weights are repetitions; what is not listed is not found', (t) => {
  const lines = [0, 1, 2].map((query) => line(query));
  const twice = [0, 1, 2, 0].map((query) => line(query));
  const weighted = microAveragePrecision({ ...pairsOf(lines), truths: Uint32Array.of(4, 3, 4) }, [2, 1, 1]);
  const repeated = rankedPairs({
    scores: Float32Array.from(twice.flatMap((values) => [...values])),
    queries: Uint32Array.from(twice.flatMap((values, i) => Array.from(values, () => i))),
    positive: Uint8Array.from(
      [0, 1, 2, 0].flatMap((query) =>
        Array.from({ length: fixture.rows }, (_, row) => Number(fixture.queries[query].positives.includes(row))),
      ),
    ),
    truths: Uint32Array.of(4, 3, 4, 4),
  });
  const all = microAveragePrecision(repeated, [1, 1, 1, 1]);
  allClose(t, [weighted.averagePrecision], [all.averagePrecision], 'a query that counts twice');
  const one: PairList = {
    scores: Float32Array.of(0.9, 0.8),
    queries: Uint32Array.of(0, 0),
    positive: Uint8Array.of(1, 0),
    truths: Uint32Array.of(1, 1),
  };
  t.deepEqual(microAveragePrecision(rankedPairs(one), [1, 1]), { averagePrecision: 0.5, recall: 0.5 }, 'half is found');
  const pruned = rankedPairs({ ...one, scores: noise(2, 1).map((v, i) => v - 3 * i) });
  t.equal(pruned.scores.length, 1, 'pairs behind the last true one are dropped');
  t.end();
});
