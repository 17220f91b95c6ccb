/** Matches of pictures that are shifted copies, whose right answers are known. */

import test from 'tape';
import { UsageError } from '../../../src/errors.js';
import { mutualMatches } from '../../../src/eval/viz/matching.js';
import type { PatchGrid } from '../../../src/eval/viz/patch_grids.js';
import { noise, testGpu } from '../../fixture.js';

const DIM = 24;

/** A smooth random field over the plane: sums of waves, one set a feature. */
function field(x: number, y: number): number[] {
  const waves = noise(DIM * 4, 17);
  return Array.from({ length: DIM }, (_, j) => {
    const [fx, fy, phase, size] = waves.subarray(4 * j, 4 * j + 4);
    return (1 + 0.3 * size) * Math.sin(1.6 * fx * x + 1.6 * fy * y + 6 * phase);
  });
}

/** The field seen through a window: patch (r, c) shows the place (c + dx, r + dy). */
function view(rows: number, columns: number, dx: number, dy: number): PatchGrid {
  const features = new Float32Array(rows * columns * DIM);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) features.set(field(c + dx, r + dy), (r * columns + c) * DIM);
  }
  return { rows, columns, features };
}

test('mutualMatches: a shift by whole patches is found exactly, patch by patch', async (t) => {
  const gpu = await testGpu();
  const [a, b] = [view(7, 9, 0, 0), view(8, 6, 2, 1)];
  const matches = await mutualMatches(gpu, a, b, DIM, { ratio: 1, refine: false });
  const shared = matches.filter(({ a: [x, y] }) => x > 2 && x < 8 && y > 1);
  t.equal(shared.length, 6 * 6, 'every patch that both pictures show');
  t.ok(
    shared.every(({ a, b, similarity }) => b[0] === a[0] - 2 && b[1] === a[1] - 1 && similarity > 0.99999),
    'at its place, with cosine 1',
  );
  const partners = new Set(matches.map(({ b }) => b.join(' ')));
  t.equal(partners.size, matches.length, 'no patch twice');
  const strict = await mutualMatches(gpu, a, b, DIM, { ratio: 0.5, refine: false });
  t.ok(strict.length >= 30 && strict.every(({ ratio }) => ratio < 0.5), 'the ratio test keeps sure ones');
  t.ok(
    strict.every(({ a, b }) => b[0] === a[0] - 2 && b[1] === a[1] - 1),
    'and nothing wrong',
  );
  t.ok(
    strict.every(({ ratio }, i) => i === 0 || strict[i - 1].ratio <= ratio),
    'surest first',
  );
});

test('mutualMatches: between patches, the peak of the similarity is near the true place', async (t) => {
  const gpu = await testGpu();
  const [shiftX, shiftY] = [1.3, 0.75];
  const [a, b] = [view(8, 9, 0, 0), view(8, 8, shiftX, shiftY)];
  const errorOf = async (refine: boolean): Promise<{ mean: number; count: number }> => {
    const matches = (await mutualMatches(gpu, a, b, DIM, { ratio: 0.9, refine })).filter(
      ({ b: [x, y] }) => x > 1 && y > 1 && x < 7 && y < 7,
    );
    const errors = matches.map(({ a, b }) => Math.hypot(a[0] - shiftX - b[0], a[1] - shiftY - b[1]));
    return { mean: errors.reduce((sum, e) => sum + e, 0) / errors.length, count: errors.length };
  };
  const [coarse, fine] = [await errorOf(false), await errorOf(true)];
  t.ok(fine.count >= 15, `${fine.count} matches inside`);
  t.ok(coarse.mean > 0.3, `whole patches are off by ${coarse.mean.toFixed(3)}`);
  t.ok(fine.mean < coarse.mean / 2, `refined ones by ${fine.mean.toFixed(3)}`);
});

test('mutualMatches: equal patches are ambiguous, and one picture of a single patch is not', async (t) => {
  const gpu = await testGpu();
  const flat: PatchGrid = { rows: 5, columns: 5, features: new Float32Array(25 * DIM).fill(1) };
  t.equal((await mutualMatches(gpu, flat, flat, DIM)).length, 0, 'a wall matches nothing');
  const one = view(1, 1, 3, 2);
  const [match] = await mutualMatches(gpu, one, one, DIM);
  t.deepEqual([match.a, match.b, match.ratio], [[0.5, 0.5], [0.5, 0.5], 0], 'one patch');
  try {
    await mutualMatches(gpu, one, one, DIM, { ratio: 0 });
    t.fail('a ratio of 0 was taken');
  } catch (error) {
    t.ok(error instanceof UsageError, (error as Error).message);
  }
});
