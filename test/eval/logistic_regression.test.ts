import { readFileSync } from 'node:fs';
import test from 'tape';
import { DataError, UsageError, WebdinoError } from '../../src/errors.js';
import {
  fitLogistic,
  LOGISTIC_STRENGTHS,
  type LogisticModel,
  type LogisticProblem,
  logisticScores,
  wavesOf,
} from '../../src/eval/logistic_regression.js';
import { LineSearch } from '../../src/eval/line_search.js';
import { rowsOf } from '../../src/eval/nearest_rows.js';
import { allClose, noise, testGpu } from '../fixture.js';

/** Made by fixtures/logistic.py with scikit-learn. */
const fixture: {
  readonly cases: readonly {
    readonly rows: number;
    readonly dim: number;
    readonly classes: number;
    readonly testRows: number;
    readonly fits: readonly {
      readonly c: number;
      /** [classes, dim], or [dim] of two classes. */
      readonly coefficients: readonly number[];
      readonly intercepts: readonly number[];
      readonly objective: number;
      readonly accuracy: number;
    }[];
  }[];
} = JSON.parse(readFileSync(new URL('../fixtures/logistic.json', import.meta.url), 'utf8'));

/** The formula of the fixture. */
function problem(
  rows: number,
  dim: number,
  classes: number,
  from = 0,
): LogisticProblem & { features: { rows: number } } {
  const labels = Array.from({ length: rows }, (_, i) => ((from + i) * 7 + ((from + i) >> 3)) % classes);
  const values = Float32Array.from({ length: rows * dim }, (_, i) => {
    const [r, d] = [from + Math.floor(i / dim), i % dim];
    const label = labels[r - from];
    return (1 + 0.2 * d) * Math.sin(0.7 * r * (d + 1) + 0.3 * d) + 0.8 * Math.cos(1.1 * label * (d + 2)) + 0.5 * d;
  });
  return { features: rowsOf(values, dim), labels };
}

async function accuracy(model: LogisticModel, { features, labels }: LogisticProblem): Promise<number> {
  let right = 0;
  await logisticScores(await testGpu(), [model], features, (row, scores) => {
    if (model.classes[scores.indexOf(Math.max(...scores))] === labels[row]) right++;
  });
  return right / features.rows;
}

test('fitLogistic: scikit-learn’s weights, objectives and accuracies, all strengths in one batch', async (t) => {
  const gpu = await testGpu();
  for (const { rows, dim, classes, testRows, fits } of fixture.cases) {
    const train = problem(rows, dim, classes);
    const models = await fitLogistic(gpu, train, { c: fits.map(({ c }) => c) });
    for (const [i, fit] of fits.entries()) {
      const { weights, bias, objective, converged } = models[i];
      const name = `${classes} classes, C ${fit.c}`;
      t.ok(converged, `${name}: ${models[i].iterations} iterations`);
      // Of two classes scikit-learn has the one vector of weights that the two here differ by.
      const own = classes === 2 ? weights.subarray(0, dim).map((w, d) => weights[dim + d] - w) : weights;
      const intercepts = classes === 2 ? [bias[1] - bias[0]] : bias;
      allClose(t, own, fit.coefficients, `${name}: weights`, { absolute: 3e-4, relative: 1e-3 });
      allClose(t, intercepts, fit.intercepts, `${name}: intercepts`, { absolute: 3e-4, relative: 1e-3 });
      t.ok(Math.abs(objective / fit.objective - 1) < 1e-6, `${name}: objective ${objective}`);
      const found = await accuracy(models[i], problem(testRows, dim, classes, rows));
      t.ok(Math.abs(found - fit.accuracy) < 1e-3, `${name}: accuracy ${found}`);
    }
  }
});

test('fitLogistic: a batch gives what one C alone gives, and the same bits twice', async (t) => {
  const gpu = await testGpu();
  const train = problem(90, 6, 4);
  const before = gpu.memory;
  const strengths = [1e-6, 0.1, 1e5];
  const together = await fitLogistic(gpu, train, { c: strengths });
  const again = await fitLogistic(gpu, train, { c: strengths });
  t.deepEqual(
    together.map(({ weights }) => [...weights]),
    again.map(({ weights }) => [...weights]),
    'the same bits',
  );
  for (const [i, c] of strengths.entries()) {
    const [alone] = await fitLogistic(gpu, train, { c: [c] });
    t.ok(Math.abs(alone.objective / together[i].objective - 1) < 1e-5, `C ${c}: ${alone.objective}`);
  }
  t.deepEqual(gpu.memory, before, 'no memory is left behind');
});

test('fitLogistic: a warm start is near its end, and iterations are bounded', async (t) => {
  const gpu = await testGpu();
  const train = problem(120, 9, 3);
  const [cold] = await fitLogistic(gpu, train, { c: [1] });
  const [warm] = await fitLogistic(gpu, train, { c: [1], start: [cold] });
  t.ok(warm.iterations < cold.iterations / 2, `${warm.iterations} iterations in place of ${cold.iterations}`);
  t.ok(Math.abs(warm.objective / cold.objective - 1) < 1e-6, 'to the same minimum');
  const done: number[] = [];
  const [short] = await fitLogistic(gpu, train, { c: [1], maxIterations: 3, onProgress: (count) => done.push(count) });
  t.deepEqual([short.iterations, short.converged], [3, false], 'three steps are not enough');
  t.deepEqual(done, [1], 'progress');
});

test('fitLogistic: classes that do not occur, far means, separable rows', async (t) => {
  const gpu = await testGpu();
  const [rows, dim] = [60, 5];
  const labels = Array.from({ length: rows }, (_, i) => [2, 5, 9][i % 3]);
  const centres = noise(3 * dim, 3);
  const values = noise(rows * dim, 4).map(
    (v, i) => 1000 + 0.1 * v + centres[(Math.floor(i / dim) % 3) * dim + (i % dim)],
  );
  const features = rowsOf(values, dim);
  const models = await fitLogistic(gpu, { features, labels }, { c: [1, 1e5] });
  t.deepEqual(models[0].classes, [2, 5, 9], 'only classes that occur');
  for (const model of models) t.equal(await accuracy(model, { features, labels }), 1, `C ${model.c}: all right`);
  t.ok(models[1].objective > 0, 'a small loss is still a loss');
});

test('fitLogistic: refuses what it cannot fit', async (t) => {
  const gpu = await testGpu();
  const good = problem(10, 3, 2);
  const before = gpu.memory;
  const refused = async (
    change: Partial<LogisticProblem>,
    c: readonly number[],
    kind: typeof WebdinoError,
    pattern: RegExp,
  ): Promise<void> => {
    try {
      await fitLogistic(gpu, { ...good, ...change }, { c });
      t.fail(`${pattern} was taken`);
    } catch (error) {
      t.ok(error instanceof kind && pattern.test((error as Error).message), (error as Error).message);
    }
  };
  await refused({}, [], UsageError, /C is empty/);
  await refused({}, [1, 0], UsageError, /C is 1, 0; give positive numbers/);
  await refused({ labels: [1, 2] }, [1], UsageError, /2 labels for 10 rows/);
  await refused({ labels: new Array(10).fill(-1) }, [1], UsageError, /-1 is not a label/);
  await refused({ labels: new Array(10).fill(3) }, [1], DataError, /all 10 rows are of class 3/);
  const broken = rowsOf(
    Float32Array.from({ length: 30 }, (_, i) => (i === 7 ? Number.NaN : i)),
    3,
  );
  await refused({ features: broken }, [1], WebdinoError, /not finite/);
  t.deepEqual(gpu.memory, before, 'and leaves no memory behind');
});

test('wavesOf: every strength once, after those it starts between', (t) => {
  for (const count of [1, 2, 4, 5, 6, 45]) {
    // In an order that nothing promises to be rising.
    const strengths = LOGISTIC_STRENGTHS.slice(0, count).map((_, i, all) => all[(i * 7) % count]);
    const solved = new Set<number>();
    let between = true;
    for (const wave of wavesOf(strengths)) {
      for (const { member, neighbours } of wave) {
        const [below, above] = neighbours.map((i) => strengths[i]);
        const own = strengths[member];
        if (solved.size > 0)
          between &&= neighbours.every((i) => solved.has(i)) && below <= own && (above ?? own) >= own;
      }
      for (const { member } of wave) solved.add(member);
    }
    t.ok(between, `${count} strengths: neighbours are solved, one on each side`);
    t.equal(solved.size, count, `${count} strengths: all are solved`);
  }
  t.end();
});

test('the official strengths', (t) => {
  t.equal(LOGISTIC_STRENGTHS.length, 45);
  allClose(
    t,
    [LOGISTIC_STRENGTHS[0], LOGISTIC_STRENGTHS[24], LOGISTIC_STRENGTHS[44]],
    [1e-6, 1, 1e5],
    'from 10^-6 to 10^5',
  );
  t.end();
});

test('LineSearch: finds the minimum of curves along which one is lost', (t) => {
  for (const [name, value, slope, first] of [
    ['a parabola', (x: number) => (x - 3) ** 2, (x: number) => 2 * (x - 3), 1],
    ['far away', (x: number) => (x - 1000) ** 2, (x: number) => 2 * (x - 1000), 1],
    ['too far at first', (x: number) => (x - 0.01) ** 2, (x: number) => 2 * (x - 0.01), 1],
    [
      'infinite beyond',
      (x: number) => (x < 2 ? (x - 1) ** 2 : Number.POSITIVE_INFINITY),
      (x: number) => 2 * (x - 1),
      50,
    ],
  ] as const) {
    const search = new LineSearch();
    search.begin(value(0), first);
    search.slope = slope(0);
    let verdict = 'again';
    let trials = 0;
    while (verdict === 'again') {
      verdict = search.judge(value(search.rate), slope(search.rate));
      trials++;
    }
    t.ok(verdict === 'taken' && value(search.rate) < value(0), `${name}: rate ${search.rate} after ${trials}`);
    t.ok(
      Math.abs(slope(search.rate)) <= 0.9 * Math.abs(slope(0)) || slope(search.rate) > 0,
      `${name}: a flatter place`,
    );
  }
  const up = new LineSearch();
  up.begin(1, 1);
  up.slope = -1;
  let verdict = 'again';
  while (verdict === 'again') verdict = up.judge(2, -1);
  t.equal(verdict, 'stuck', 'a curve whose slope lies');
  t.end();
});
