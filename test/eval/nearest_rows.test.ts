import { join } from 'node:path';
import test from 'tape';
import { UsageError, WebdinoError } from '../../src/errors.js';
import { FeatureFile } from '../../src/eval/feature_file.js';
import { type Neighbours, nearestRows, type RowReader, rowsOf, similarityLines } from '../../src/eval/nearest_rows.js';
import { withFolder } from '../data/archives.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { cosines, ranking } from '../oracle/knn.js';

async function bothWays(
  queries: RowReader,
  database: RowReader,
  k: number,
): Promise<Record<'gpu' | 'cpu', Neighbours>> {
  const gpu = await testGpu();
  return {
    gpu: await nearestRows(gpu, queries, database, k, { selection: 'gpu' }),
    cpu: await nearestRows(gpu, queries, database, k, { selection: 'cpu' }),
  };
}

test('nearestRows: the same rows and bits by the GPU’s lists and by the CPU’s heaps', async (t) => {
  for (const [m, n, dim, k] of [
    [5, 300, 50, 20],
    [3, 8500, 6, 200],
    [261, 17, 50, 17],
    [1, 1, 1, 10],
    [1100, 200, 4, 5],
  ]) {
    const { gpu, cpu } = await bothWays(rowsOf(noise(m * dim, 3), dim), rowsOf(noise(n * dim, 4), dim), k);
    t.equal(gpu.k, Math.min(k, n));
    sameBits(t, gpu.indices, cpu.indices, `${m} queries, ${n} rows, k ${k}: rows`);
    sameBits(t, gpu.similarities, cpu.similarities, `${m} queries, ${n} rows, k ${k}: cosines`);
  }
});

test('nearestRows: equal similarities in the order of the rows, both ways', async (t) => {
  const dim = 6;
  // Three vectors, each at many rows of both blocks.
  const kinds = [noise(dim, 1), noise(dim, 2), noise(dim, 3)];
  const n = 8300;
  const database = Float32Array.from({ length: n * dim }, (_, i) => kinds[Math.floor(i / dim) % 3][i % dim]);
  const { gpu, cpu } = await bothWays(rowsOf(kinds[1], dim), rowsOf(database, dim), 250);
  t.deepEqual(
    [...gpu.indices],
    Array.from({ length: 250 }, (_, i) => 3 * i + 1),
    'the first rows of its kind',
  );
  sameBits(t, gpu.indices, cpu.indices, 'both ways');
});

test('nearestRows: rows on disk are streamed', async (t) => {
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    const [m, n, dim, k] = [4, 9000, 8, 7];
    const file = FeatureFile.create(join(folder, 'features'), dim);
    file.append(noise(n * dim, 5));
    const queries = rowsOf(noise(m * dim, 6), dim);
    const stored = rowsOf(file.readRange(0, n), dim);
    const seen: number[] = [];
    const fromDisk = await nearestRows(gpu, queries, file, k, {
      selection: 'gpu',
      onProgress: (rows) => seen.push(rows),
    });
    const fromMemory = await nearestRows(gpu, queries, stored, k, { selection: 'gpu' });
    t.deepEqual(seen, [8192, 9000], 'by blocks');
    sameBits(t, fromDisk.indices, fromMemory.indices, 'the rows of the same features in memory');
    const slow: RowReader = { ...stored, readRange: async (first, count) => stored.readRange(first, count) };
    const later = await nearestRows(gpu, queries, slow, k);
    sameBits(t, later.indices, fromMemory.indices, 'also from a reader that answers later');
    file.close();
  });
});

test('similarityLines: every cosine, query by query', async (t) => {
  const gpu = await testGpu();
  const [m, n, dim] = [3, 8200, 5];
  const [queries, database] = [noise(m * dim, 7), noise(n * dim, 8)];
  const order: number[] = [];
  await similarityLines(gpu, rowsOf(queries, dim), rowsOf(database, dim), (query, line) => {
    order.push(query);
    const exact = cosines(queries.subarray(query * dim, (query + 1) * dim), database, dim);
    allClose(t, line, exact, `query ${query}`);
    t.equal(ranking(Float64Array.from(line))[0], ranking(exact)[0], 'its nearest row');
  });
  t.deepEqual(order, [0, 1, 2], 'in order');
});

test('nearestRows: refuses what has no neighbours', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  const refused = async (run: () => Promise<unknown>, kind: typeof WebdinoError, pattern: RegExp): Promise<void> => {
    try {
      await run();
      t.fail(`${pattern} was taken`);
    } catch (error) {
      t.ok(error instanceof kind && pattern.test((error as Error).message), (error as Error).message);
    }
  };
  const two = rowsOf(Float32Array.of(1, 2, 3, 4), 2);
  for (const selection of ['gpu', 'cpu'] as const) {
    const bad = rowsOf(Float32Array.of(1, 2, 3, Number.NaN), 2);
    await refused(() => nearestRows(gpu, two, bad, 1, { selection }), WebdinoError, /row 1 is not finite/);
    await refused(() => nearestRows(gpu, bad, two, 1, { selection }), WebdinoError, /row 1 is not finite/);
  }
  await refused(() => nearestRows(gpu, two, rowsOf(new Float32Array(0), 2), 1), UsageError, /over 0 rows/);
  await refused(() => nearestRows(gpu, two, rowsOf(new Float32Array(3), 3), 1), UsageError, /2 features and .* 3/);
  await refused(() => nearestRows(gpu, two, two, 0), UsageError, /0 nearest rows/);
  await refused(async () => rowsOf(new Float32Array(3), 2), UsageError, /no whole rows of 2/);
  t.deepEqual(gpu.memory, before, 'and leaves no memory behind');
});
