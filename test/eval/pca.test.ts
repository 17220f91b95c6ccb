/** PCA against what is known by construction, against a plain power iteration, and its picture. */
import fc from 'fast-check';
import test from 'tape';
import { pca, pcaRgb, project, scoresToRgb } from '../../src/eval/pca.js';

/** Values in [-1, 1) from a counter, the same every run. */
function noise(length: number, seed: number): Float64Array {
  return Float64Array.from({ length }, (_, i) => {
    let h = Math.imul(i * 7919 + seed * 104729 + 1, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
    return ((h ^ (h >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Rows of independent axes with the given spreads, rotated by a reflection, plus an offset. */
function cloud(n: number, spreads: number[], seed: number): { features: Float32Array; axes: number[][] } {
  const d = spreads.length;
  const normal = noise(d, seed + 1);
  const length = Math.sqrt(normal.reduce((sum, x) => sum + x * x, 0));
  const axes = spreads.map((_, a) =>
    Array.from(normal, (x, j) => (a === j ? 1 : 0) - (2 * normal[a] * x) / length ** 2),
  );
  const values = noise(n * d, seed);
  const features = new Float32Array(n * d);
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++)
      for (let j = 0; j < d; j++)
        features[i * d + j] += values[i * d + a] * spreads[a] * axes[a][j] + (a === 0 ? 3 : 0);
  }
  return { features, axes };
}

test('pca: axes of a made cloud, tall and wide', async (t) => {
  for (const [n, spreads] of [
    [4000, [1, 9, 0.5, 5, 3, 0.1, 0.2, 0.3, 0.1, 0.2]],
    [40, [9, 6, 4, ...new Array(90).fill(0.02)]],
  ] as [number, number[]][]) {
    const { features, axes } = cloud(n, spreads, n);
    const { components, variances, explained } = pca(features, n, spreads.length);
    const order = spreads.map((spread, a) => [spread, a]).sort((a, b) => b[0] - a[0]);
    for (let c = 0; c < 3; c++) {
      const axis = axes[order[c][1]];
      const cosine = Math.abs(axis.reduce((sum, x, j) => sum + x * components[c * spreads.length + j], 0));
      t.ok(cosine > (n > 1000 ? 0.99 : 0.9), `${n} rows, component ${c + 1}: cosine ${cosine.toFixed(4)}`);
    }
    t.ok(variances[0] > variances[1] && variances[1] > variances[2]);
    t.ok(explained[0] < 1 && explained[0] + explained[1] + explained[2] > 0.8);
  }
});

test('pca: components are orthonormal eigenvectors of the covariance, signs fixed', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 30 }), fc.integer({ min: 3, max: 25 }), fc.nat(1000), (n, d, seed) => {
      const features = Float32Array.from(noise(n * d, seed));
      const { mean, components, variances } = pca(features, n, d);
      for (let a = 0; a < 3; a++) {
        const row = components.subarray(a * d, (a + 1) * d);
        const largest = row.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
        if (largest < 0) return false;
        for (let b = 0; b <= a; b++) {
          const other = components.subarray(b * d, (b + 1) * d);
          const product = row.reduce((sum, x, j) => sum + x * other[j], 0);
          if (Math.abs(product - (a === b ? 1 : 0)) > 1e-9) return false;
        }
        // Covariance times the component is its variance times the component.
        const image = new Float64Array(d);
        for (let i = 0; i < n; i++) {
          let score = 0;
          for (let j = 0; j < d; j++) score += (features[i * d + j] - mean[j]) * row[j];
          for (let j = 0; j < d; j++) image[j] += (score * (features[i * d + j] - mean[j])) / (n - 1);
        }
        if (image.some((x, j) => Math.abs(x - variances[a] * row[j]) > 1e-4 * Math.max(variances[0], 1e-3)))
          return false;
      }
      return true;
    }),
    { numRuns: 60 },
  );
  t.pass('60 random sets');
});

test('pca: equal rows, too few rows, values that are no numbers', async (t) => {
  const { variances, explained } = pca(new Float32Array(40).fill(2), 10, 4);
  t.deepEqual([...variances, ...explained], [0, 0, 0, 0, 0, 0]);
  t.throws(() => pca(new Float32Array(4), 1, 4), /needs \[n ≥ 2, d\] features/);
  t.throws(() => pca(Float32Array.of(1, Number.NaN, 2, 3), 2, 2), /not finite/);
  t.throws(() => pcaRgb(new Float32Array(8), 4, 2), /at least 3 dimensions/);
});

test('pca: colours stretch each component from 0 to 255; background is black', async (t) => {
  const scores = Float64Array.of(-1, 5, 0, 0, 5, 10, 1, 5, 5);
  t.deepEqual([...scoresToRgb(scores, 3)], [0, 128, 0, 128, 128, 255, 255, 128, 128]);
  t.deepEqual([...scoresToRgb(scores, 3, [true, true, false])], [0, 128, 0, 255, 128, 255, 0, 0, 0]);
  const { features } = cloud(50, [9, 1, 2, 3], 5);
  const rgb = pcaRgb(features, 50, 4, 0.5);
  const first = project(pca(features, 50, 4), features, 50).filter((_, i) => i % 3 === 0);
  const middle = (Math.min(...first) + Math.max(...first)) / 2;
  const black = Array.from(first, (_, i) => rgb[3 * i] + rgb[3 * i + 1] + rgb[3 * i + 2] === 0);
  t.ok(
    first.every((score, i) => score >= middle || black[i]),
    'the lower half of the first component is background',
  );
  t.ok(black.filter((isBlack) => !isBlack).length > 10);
});
