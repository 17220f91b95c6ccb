import test from 'tape';
import { CounterRandom } from '../../src/data/random.js';
import { WebdinoError } from '../../src/errors.js';
import { bootstrapDraws, bootstrapMetric, interval, pairedMargin } from '../../src/eval/bootstrap.js';
import type { Metric } from '../../src/eval/result.js';
import { allClose } from '../fixture.js';

const accuracyOf =
  (correct: ArrayLike<number>) =>
  (sample: Uint32Array): number =>
    (100 * sample.reduce((sum, i) => sum + correct[i], 0)) / sample.length;

const accuracy = (value: number): Metric => ({ name: 'top1', value, unit: '%', better: 'higher' });

test('bootstrapDraws: with replacement, a draw depends on the seed and its number only', (t) => {
  const draws = bootstrapDraws(50, 20, 7);
  t.equal(draws.length, 20);
  t.ok(
    draws.every((draw) => draw.length === 50 && draw.every((i) => i < 50)),
    'each of [samples], in range',
  );
  t.ok(new Set(draws[0]).size < 50, 'some come twice');
  t.notDeepEqual(draws[0], draws[1], 'draws differ');
  t.deepEqual(bootstrapDraws(50, 30, 7).slice(0, 20), draws, 'the same again, also among more draws');
  t.notDeepEqual(bootstrapDraws(50, 1, 8)[0], draws[0], 'another seed');
  // Each sample is drawn 1 time a draw on average: 20 draws of 50 are 1000, the standard deviation of a count 4.4.
  const counts = new Array<number>(50).fill(0);
  for (const i of draws.flatMap((draw) => [...draw])) counts[i]++;
  t.ok(
    counts.every((count) => Math.abs(count - 20) < 5 * 4.5),
    'evenly',
  );
  t.throws(() => bootstrapDraws(0, 10, 0), WebdinoError, 'nothing to draw from');
  t.throws(() => bootstrapDraws(10, 0, 0), WebdinoError, 'no draws');
  t.end();
});

test('interval: percentiles of the values that are numbers', (t) => {
  const values = Float64Array.from({ length: 101 }, (_, i) => 100 - i);
  allClose(t, interval(values, 0.9), [5, 95], 'whole places');
  t.deepEqual(interval([0, 1], 0.5), [0.25, 0.75], 'between two values');
  t.deepEqual(interval([Number.NaN, 3, Number.NaN]), [3, 3], 'undefined draws do not count');
  t.deepEqual(interval([Number.NaN]), [Number.NaN, Number.NaN], 'none left');
  t.end();
});

test('bootstrap: an interval of 90 % covers the true accuracy in about 90 of 100 test sets', (t) => {
  const truth = 70;
  const sets = 300;
  let covered = 0;
  for (let set = 0; set < sets; set++) {
    const random = new CounterRandom(set, 99);
    const correct = Array.from({ length: 120 }, () => Number(random.uniform() < truth / 100));
    const [low, high] = interval(bootstrapMetric(bootstrapDraws(120, 200, set), accuracyOf(correct)), 0.9);
    if (low <= truth && truth <= high) covered++;
  }
  // 0.9 * 300 with a standard deviation of 5.2.
  t.ok(Math.abs(covered - 0.9 * sets) < 4 * 5.2, `${covered} of ${sets}`);
  t.end();
});

test('pairedMargin: narrower than two intervals apart, signed by what is better', (t) => {
  const random = new CounterRandom(3, 1);
  const hard = Array.from({ length: 200 }, () => random.uniform());
  const first = hard.map((difficulty) => Number(difficulty < 0.7));
  const second = hard.map((difficulty) => Number(difficulty < 0.62));
  const draws = bootstrapDraws(200, 500, 0);
  const [a, b] = [first, second].map((correct) => bootstrapMetric(draws, accuracyOf(correct)));
  const all = Uint32Array.from({ length: 200 }, (_, i) => i);
  const [valueA, valueB] = [first, second].map((correct) => accuracyOf(correct)(all));
  const margin = pairedMargin('a', 'b', accuracy(valueA), accuracy(valueB), a, b);
  t.deepEqual([margin.model, margin.against, margin.metric, margin.unit], ['a', 'b', 'top1', '%']);
  t.ok(Math.abs(margin.difference - (valueA - valueB)) < 1e-12, 'the difference of the values');
  t.ok(margin.interval[0] > 0, 'a is better in every likely test set');
  const apart = interval(a.map((value, draw) => value - b[(draw + 1) % b.length]));
  t.ok(
    margin.interval[1] - margin.interval[0] < 0.6 * (apart[1] - apart[0]),
    'pairs are narrower than draws of their own',
  );
  const back = pairedMargin('b', 'a', accuracy(valueB), accuracy(valueA), b, a);
  t.deepEqual([back.difference, ...back.interval], [-margin.difference, -margin.interval[1], -margin.interval[0]]);
  const error = (value: number): Metric => ({ name: 'RMSE', value, unit: 'm', better: 'lower' });
  const lower = pairedMargin('a', 'b', error(1), error(1.5), Float64Array.of(1, 1.2), Float64Array.of(1.5, 1.6));
  t.equal(lower.difference, 0.5, 'a smaller error is ahead');
  t.ok(lower.interval[0] > 0.39 && lower.interval[1] < 0.51);
  t.throws(() => pairedMargin('a', 'b', accuracy(1), error(1), a, b), /a and b cannot be compared/);
  t.throws(() => pairedMargin('a', 'b', accuracy(1), accuracy(1), a, b.subarray(1)), WebdinoError);
  t.end();
});
