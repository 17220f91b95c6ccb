import test from 'tape';
import { UsageError, WebdinoError } from '../../src/errors.js';
import { fewShotKnnAccuracy, knnAccuracy, knnWeights, nearestNeighbours } from '../../src/eval/knn.js';
import { TorchRandom } from '../../src/eval/torch_random.js';
import { allClose, noise, testGpu } from '../fixture.js';
import { cosines, knnOracle, ranking } from '../oracle/knn.js';

/** Noisy classes: a direction of each class plus noise, of any length. */
function labelled(rows: number, dim: number, classes: number, seed: number) {
  const centres = noise(classes * dim, 7);
  const spread = noise(rows * dim, seed);
  const labels = Array.from({ length: rows }, (_, i) => (i * 7 + (i >> 3)) % classes);
  const features = spread.map((value, i) => {
    const row = Math.floor(i / dim);
    return (1 + (row % 5)) * (value + 0.4 * centres[labels[row] * dim + (i % dim)]);
  });
  return { features, labels };
}

test('knnWeights: the golden softmax of the specification', (t) => {
  const weights = knnWeights([0.9, 0.8, 0.75, 0.5], 0.07);
  allClose(t, weights, [0.735149, 0.176179, 0.086247, 0.002425], 'weights', { absolute: 1e-6, relative: 0 });
  allClose(t, knnWeights([1, -1], 1e-3), [1, 0], 'no overflow at low temperatures');
  t.end();
});

test('nearestNeighbours: rows and cosines of the oracle, over several blocks', async (t) => {
  const gpu = await testGpu();
  for (const [m, n, dim, k] of [
    [5, 300, 50, 20],
    [3, 8500, 6, 200],
    [261, 17, 50, 17],
    [1, 1, 1, 10],
  ]) {
    const [queries, train] = [noise(m * dim, 3), noise(n * dim, 4)];
    const found = await nearestNeighbours(gpu, queries, train, dim, k);
    t.equal(found.k, Math.min(k, n), `${m} queries, ${n} rows: k`);
    const expected: number[] = [];
    let misplaced = 0;
    for (let q = 0; q < m; q++) {
      const exact = cosines(queries.subarray(q * dim, (q + 1) * dim), train, dim);
      ranking(exact)
        .slice(0, found.k)
        .forEach((row, i) => {
          expected.push(exact[row]);
          // Float32 may swap what float64 tells apart by less than its own rounding.
          if (Math.abs(exact[found.indices[q * found.k + i]] - exact[row]) > 1e-6) misplaced++;
        });
      const rows = found.indices.subarray(q * found.k, (q + 1) * found.k);
      t.equal(new Set(rows).size, found.k, `query ${q}: no row twice`);
      if (q >= 4) break;
    }
    t.equal(misplaced, 0, `${m} queries, ${n} rows: the nearest rows, nearest first`);
    allClose(t, found.similarities.subarray(0, expected.length), expected, `${m} queries, ${n} rows: cosines`);
  }
});

test('nearestNeighbours: equal similarities in the order of the rows', async (t) => {
  const gpu = await testGpu();
  const dim = 6;
  // Three vectors, each at many rows of both blocks of training rows.
  const kinds = [noise(dim, 1), noise(dim, 2), noise(dim, 3)];
  const n = 8300;
  const train = Float32Array.from({ length: n * dim }, (_, i) => kinds[Math.floor(i / dim) % 3][i % dim]);
  for (const [kind, vector] of kinds.entries()) {
    const { indices } = await nearestNeighbours(gpu, vector, train, dim, 2770);
    // One row in three is the query itself: 2767 or 2766 of them, then the second nearest kind from its first row.
    const own = Math.ceil((n - kind) / 3);
    t.deepEqual(
      [...indices.subarray(0, own)],
      Array.from({ length: own }, (_, i) => 3 * i + kind),
      `kind ${kind}: its own rows in order`,
    );
    const second = indices[own] % 3;
    t.deepEqual(
      [...indices.subarray(own)],
      Array.from({ length: 2770 - own }, (_, i) => 3 * i + second),
      `kind ${kind}: then those of the next kind, from the first`,
    );
  }
});

test('knnAccuracy: the oracle’s accuracies', async (t) => {
  const gpu = await testGpu();
  for (const { rows, queries, dim, classes, k, temperature } of [
    { rows: 257, queries: 50, dim: 50, classes: 7, k: [1, 5, 20, 100], temperature: 0.07 },
    { rows: 300, queries: 261, dim: 50, classes: 40, k: [200, 10, 20, 100], temperature: 0.07 },
    { rows: 60, queries: 61, dim: 3, classes: 3, k: [10], temperature: 1 },
  ]) {
    const [train, queried] = [labelled(rows, dim, classes, 11), labelled(queries, dim, classes, 12)];
    const scores = await knnAccuracy(gpu, { train, test: queried, dim, k, temperature });
    const sorted = [...k].sort((a, b) => a - b);
    t.deepEqual(
      scores.map(({ k, top1, top5 }) => ({ k, top1, top5 })),
      knnOracle(train, queried, dim, sorted, temperature),
      `${rows} rows, ${classes} classes: ${scores.map(({ top1 }) => top1.toFixed(1)).join(' ')} %`,
    );
    t.deepEqual(
      scores.map(({ neighbours }) => neighbours),
      sorted,
      'neighbours',
    );
  }
});

test('knnAccuracy: more neighbours than pictures, ties, strange classes', async (t) => {
  const gpu = await testGpu();
  const one = Float32Array.of(3, 4);
  const four = Float32Array.of(3, 4, 6, 8, 3, 4, 1.5, 2);
  const scores = await knnAccuracy(gpu, {
    train: { features: four, labels: [1, 0, 1, 0] },
    test: { features: one, labels: [0] },
    dim: 2,
    k: [1, 2, 10],
  });
  t.deepEqual(
    scores.map(({ k, neighbours, top1 }) => [k, neighbours, top1]),
    [
      [1, 1, 0],
      [2, 2, 100],
      [10, 4, 100],
    ],
    'the lowest row is nearest; equal votes go to the lower class; k is capped',
  );
  t.equal(scores[0].top5, 100, 'with two classes all are among the first five');
  const [unknown] = await knnAccuracy(gpu, {
    train: { features: four, labels: [0, 1, 2, 3] },
    test: { features: Float32Array.of(3, 4, 3, 4), labels: [0, 9] },
    dim: 2,
    k: [4],
  });
  t.equal(unknown.top5, 50, 'a class that the training set lacks is never right');
});

test('knnAccuracy: a zero feature has no direction and does no harm', async (t) => {
  const scores = await knnAccuracy(await testGpu(), {
    train: { features: Float32Array.of(0, 0, 1, 0, 0, 1), labels: [0, 1, 2] },
    test: { features: Float32Array.of(0.1, 2, 0, 0), labels: [2, 0] },
    dim: 2,
    k: [1],
  });
  t.equal(scores[0].top1, 100);
});

test('kNN: refuses what it cannot classify', async (t) => {
  const gpu = await testGpu();
  const good = { features: Float32Array.of(1, 2), labels: [0] };
  const refused = async (
    change: object,
    expected: typeof WebdinoError,
    pattern: RegExp,
    what: string,
  ): Promise<void> => {
    try {
      await knnAccuracy(gpu, { train: good, test: good, dim: 2, k: [1], ...change });
      t.fail(`${what}: was taken`);
    } catch (error) {
      t.ok(error instanceof expected && pattern.test(error.message), `${what}: ${(error as Error).message}`);
    }
  };
  const before = gpu.memory;
  await refused({ train: { ...good, labels: [0, 1] } }, UsageError, /train: 2 labels for 1 rows/, 'too many labels');
  await refused({ test: { ...good, labels: [-1] } }, UsageError, /-1 is not a label/, 'a negative label');
  await refused({ k: [0] }, UsageError, /k is 0/, 'no neighbours');
  await refused({ k: [] }, UsageError, /k is empty/, 'no k');
  await refused({ temperature: 0 }, UsageError, /temperature/, 'temperature 0');
  await refused({ train: { features: new Float32Array(), labels: [] } }, UsageError, /0 training rows/, 'an empty set');
  const bad = { features: Float32Array.of(1, Number.NaN), labels: [0] };
  await refused({ test: bad }, WebdinoError, /row 0 is not finite/, 'a NaN');
  t.deepEqual(gpu.memory, before, 'and leaves no memory behind');
});

test('TorchRandom: PyTorch’s generator', (t) => {
  t.deepEqual([...new TorchRandom(0).permutation(10)], [4, 1, 7, 5, 3, 9, 0, 8, 6, 2], 'torch.randperm(10) of seed 0');
  const random = new TorchRandom(5489);
  let value = 0;
  for (let i = 0; i < 10000; i++) value = random.next();
  t.equal(value, 4123659995, 'the 10,000th number of std::mt19937');
  t.deepEqual([...new TorchRandom(3).permutation(0)], [], 'of nothing');
  t.end();
});

test('fewShotKnnAccuracy: the drawn pictures vote, averaged over the tries', async (t) => {
  const gpu = await testGpu();
  const dim = 4;
  const [train, queried] = [labelled(90, dim, 3, 21), labelled(40, dim, 3, 22)];
  const scores = await fewShotKnnAccuracy(gpu, { train, test: queried, dim, k: [1, 10], nPerClass: 5, nTries: 2 });
  t.deepEqual(
    scores.map(({ k }) => k),
    [1, 5],
    'k up to the pictures of a class, which are among them',
  );
  const tries = [0, 1].map((seed) => {
    const random = new TorchRandom(seed);
    const rows = [0, 1, 2].flatMap((label) => {
      const own = train.labels.flatMap((other, row) => (other === label ? [row] : []));
      return [...random.permutation(own.length)].slice(0, 5).map((i) => own[i]);
    });
    const features = Float32Array.from(rows.flatMap((row) => [...train.features.subarray(row * dim, (row + 1) * dim)]));
    return knnOracle({ features, labels: rows.map((row) => train.labels[row]) }, queried, dim, [1, 5], 0.07);
  });
  scores.forEach(({ top1 }, i) => {
    t.equal(top1, (tries[0][i].top1 + tries[1][i].top1) / 2, `k ${scores[i].k}: ${top1} %`);
  });
  t.notDeepEqual(tries[0], tries[1], 'the tries differ');
});
