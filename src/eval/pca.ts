/**
 * Principal components of features, and the pictures made from them: three components as red, green and blue.
 *
 * Subspace iteration in float64: a block of vectors is multiplied by the covariance, orthonormalised and rotated to
 * the covariance's axes in that block, until the leading variances stand still. Start and signs are fixed (the loading of
 * largest magnitude is positive), so the same features give the same picture.
 */
import { WebdinoError } from '../errors.js';

/** Principal components of a set of features. */
export interface Pca {
  /** `[d]`. */
  mean: Float64Array;
  /** `[k, d]`, C order; unit rows, largest variance first. */
  components: Float64Array;
  /** `[k]`, variance along each component (divisor n − 1). */
  variances: Float64Array;
  /** `[k]`, share of the total variance. */
  explained: Float64Array;
}

/** Vectors iterated beyond those asked for; they make the last ones converge sooner. */
const OVERSAMPLING = 5;
const MAX_ITERATIONS = 200;

/** Relative change of the leading variances at which the iteration stops. */
const TOLERANCE = 1e-10;

/**
 * The first `k` principal components.
 *
 * @param features `[n, d]`, C order.
 * @throws WebdinoError when there are fewer than two rows or a value is not finite.
 */
export function pca(features: Float32Array, n: number, d: number, k = 3): Pca {
  if (n < 2 || d < 1 || features.length !== n * d) {
    throw new WebdinoError(`PCA needs [n ≥ 2, d] features; got ${features.length} values for [${n}, ${d}].`);
  }
  const mean = new Float64Array(d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) mean[j] += features[i * d + j];
  for (let j = 0; j < d; j++) mean[j] /= n;
  const centred = new Float64Array(n * d);
  let totalVariance = 0;
  for (let i = 0; i < n * d; i++) {
    centred[i] = features[i] - mean[i % d];
    totalVariance += centred[i] ** 2 / (n - 1);
  }
  if (!Number.isFinite(totalVariance)) throw new WebdinoError('PCA: the features hold values that are not finite.');
  const kept = Math.min(k, d);
  const width = Math.min(kept + OVERSAMPLING, d);
  const multiply = covarianceProduct(centred, n, d);
  let basis = orthonormalise(startBlock(width, d), width, d);
  let variances: Float64Array = new Float64Array(width);
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    const product = multiply(basis, width);
    const small = new Float64Array(width * width);
    for (let a = 0; a < width; a++)
      for (let b = 0; b < width; b++) small[a * width + b] = dot(basis, a * d, product, b * d, d);
    const { values, vectors } = symmetricEigen(small, width);
    let change = 0;
    for (let i = 0; i < kept; i++) change = Math.max(change, Math.abs(values[i] - variances[i]));
    variances = values;
    const settled = change <= TOLERANCE * Math.max(values[0], Number.MIN_VALUE);
    // The last rotation is of the basis itself, so that rows and variances belong together.
    basis = settled ? rotate(basis, vectors, width, d) : orthonormalise(rotate(product, vectors, width, d), width, d);
    if (settled) break;
  }
  const components = basis.slice(0, kept * d);
  for (let i = 0; i < kept; i++) fixSign(components.subarray(i * d, (i + 1) * d));
  const leading = variances.slice(0, kept);
  return {
    mean,
    components,
    variances: leading,
    explained: leading.map((v) => (totalVariance > 0 ? v / totalVariance : 0)),
  };
}

/**
 * Coordinates of features along the components.
 * @param features `[n, d]`.
 * @returns `[n, k]`, C order.
 */
export function project(
  { mean, components }: Pick<Pca, 'mean' | 'components'>,
  features: Float32Array,
  n: number,
): Float64Array {
  const d = mean.length;
  const k = components.length / d;
  const scores = new Float64Array(n * k);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < k; c++) {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += (features[i * d + j] - mean[j]) * components[c * d + j];
      scores[i * k + c] = sum;
    }
  }
  return scores;
}

/**
 * Three components as colours: each stretched from its minimum to its maximum over all rows given, so project all
 * pictures that are shown together and convert them at once.
 *
 * @param scores `[n, 3]`.
 * @param foreground rows to show; the others are black and do not count for the stretch. Default all.
 * @returns `[n, 3]` RGB bytes.
 * Source: the paper's PCA figure.
 */
export function scoresToRgb(scores: Float64Array, n: number, foreground?: readonly boolean[]): Uint8Array {
  const rgb = new Uint8Array(n * 3);
  for (let c = 0; c < 3; c++) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < n; i++) {
      if (foreground && !foreground[i]) continue;
      low = Math.min(low, scores[i * 3 + c]);
      high = Math.max(high, scores[i * 3 + c]);
    }
    for (let i = 0; i < n; i++) {
      if (foreground && !foreground[i]) continue;
      rgb[i * 3 + c] = high > low ? Math.round((255 * (scores[i * 3 + c] - low)) / (high - low)) : 128;
    }
  }
  return rgb;
}

/**
 * The paper's figure: a first component separates foreground from background at `threshold` of its range, and a second
 * PCA over the foreground of all pictures gives the colours.
 *
 * @param features `[n, d]`, patches of all pictures.
 * @param threshold 0 … 1 of the first component's range; 0 keeps everything and needs one PCA only.
 * @returns `[n, 3]` RGB bytes, background black.
 */
export function pcaRgb(features: Float32Array, n: number, d: number, threshold = 0): Uint8Array {
  if (d < 3) throw new WebdinoError(`A PCA picture needs features of at least 3 dimensions, got ${d}.`);
  const scores = project(pca(features, n, d), features, n);
  if (threshold <= 0) return scoresToRgb(scores, n);
  const first = Array.from({ length: n }, (_, i) => scores[i * 3]);
  const low = first.reduce((a, b) => Math.min(a, b));
  const high = first.reduce((a, b) => Math.max(a, b));
  const foreground = first.map((score) => score >= low + threshold * (high - low));
  const rows = foreground.flatMap((kept, i) => (kept ? [i] : []));
  if (rows.length < 2) return scoresToRgb(scores, n);
  const kept = new Float32Array(rows.length * d);
  rows.forEach((row, i) => {
    kept.set(features.subarray(row * d, (row + 1) * d), i * d);
  });
  return scoresToRgb(project(pca(kept, rows.length, d), features, n), n, foreground);
}

type BlockProduct = (block: Float64Array, width: number) => Float64Array;

/** Covariance times a block of row vectors `[width, d]`; formed once where that is the smaller matrix. */
function covarianceProduct(centred: Float64Array, n: number, d: number): BlockProduct {
  if (n >= d) {
    const covariance = new Float64Array(d * d);
    for (let i = 0; i < n; i++) {
      for (let a = 0; a < d; a++) {
        const value = centred[i * d + a] / (n - 1);
        for (let b = a; b < d; b++) covariance[a * d + b] += value * centred[i * d + b];
      }
    }
    for (let a = 0; a < d; a++) for (let b = 0; b < a; b++) covariance[a * d + b] = covariance[b * d + a];
    return (block, width) => {
      const out = new Float64Array(width * d);
      for (let r = 0; r < width; r++)
        for (let a = 0; a < d; a++) out[r * d + a] = dot(block, r * d, covariance, a * d, d);
      return out;
    };
  }
  return (block, width) => {
    const out = new Float64Array(width * d);
    for (let r = 0; r < width; r++) {
      for (let i = 0; i < n; i++) {
        const score = dot(block, r * d, centred, i * d, d) / (n - 1);
        for (let j = 0; j < d; j++) out[r * d + j] += score * centred[i * d + j];
      }
    }
    return out;
  };
}

function dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, length: number): number {
  let sum = 0;
  for (let j = 0; j < length; j++) sum += a[aStart + j] * b[bStart + j];
  return sum;
}

/** Fixed pseudo-random rows: a start that is orthogonal to no natural direction. */
function startBlock(width: number, d: number): Float64Array {
  return Float64Array.from({ length: width * d }, (_, i) => {
    let h = Math.imul(i + 1, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    return ((h ^ (h >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Modified Gram-Schmidt, twice over, in place. A row with nothing left becomes an axis orthogonal to the others. */
function orthonormalise(block: Float64Array, width: number, d: number): Float64Array {
  for (let r = 0; r < width; r++) {
    const before = Math.sqrt(dot(block, r * d, block, r * d, d));
    let norm = removeEarlier(block, r, d);
    for (let axis = 0; norm <= 1e-12 * before || norm === 0; axis++) {
      block.fill(0, r * d, (r + 1) * d);
      block[r * d + axis] = 1;
      norm = removeEarlier(block, r, d);
      if (norm > 0.5 / Math.sqrt(d)) break;
    }
    for (let j = 0; j < d; j++) block[r * d + j] /= norm;
  }
  return block;
}

/** Takes the directions of rows 0 … r − 1 out of row r; returns the length that is left. */
function removeEarlier(block: Float64Array, r: number, d: number): number {
  for (let pass = 0; pass < 2; pass++) {
    for (let q = 0; q < r; q++) {
      const overlap = dot(block, r * d, block, q * d, d);
      for (let j = 0; j < d; j++) block[r * d + j] -= overlap * block[q * d + j];
    }
  }
  return Math.sqrt(dot(block, r * d, block, r * d, d));
}

/** Rows of the result are `vectors` (columns) applied to the rows of `block`. */
function rotate(block: Float64Array, vectors: Float64Array, width: number, d: number): Float64Array {
  const out = new Float64Array(width * d);
  for (let r = 0; r < width; r++) {
    for (let q = 0; q < width; q++) {
      const weight = vectors[q * width + r];
      for (let j = 0; j < d; j++) out[r * d + j] += weight * block[q * d + j];
    }
  }
  return out;
}

/** All eigenvalues (largest first) and eigenvectors (columns) of a small symmetric matrix: cyclic Jacobi rotations. */
function symmetricEigen(matrix: Float64Array, size: number): { values: Float64Array; vectors: Float64Array } {
  const a = matrix.slice();
  const v = new Float64Array(size * size);
  for (let i = 0; i < size; i++) v[i * size + i] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    let diagonal = 0;
    for (let p = 0; p < size; p++) {
      diagonal += a[p * size + p] ** 2;
      for (let q = p + 1; q < size; q++) off += a[p * size + q] ** 2;
    }
    if (off <= 1e-30 * diagonal) break;
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) jacobiRotation(a, v, size, p, q);
  }
  const order = Array.from({ length: size }, (_, i) => i).sort((i, j) => a[j * size + j] - a[i * size + i]);
  const vectors = new Float64Array(size * size);
  order.forEach((from, to) => {
    for (let i = 0; i < size; i++) vectors[i * size + to] = v[i * size + from];
  });
  return { values: Float64Array.from(order, (i) => a[i * size + i]), vectors };
}

/** Zeroes element (p, q) of `a` and carries the rotation along in `v`. */
function jacobiRotation(a: Float64Array, v: Float64Array, size: number, p: number, q: number): void {
  const apq = a[p * size + q];
  if (apq === 0) return;
  const theta = (a[q * size + q] - a[p * size + p]) / (2 * apq);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let i = 0; i < size; i++) {
    const aip = a[i * size + p];
    const aiq = a[i * size + q];
    a[i * size + p] = c * aip - s * aiq;
    a[i * size + q] = s * aip + c * aiq;
  }
  for (let i = 0; i < size; i++) {
    const api = a[p * size + i];
    const aqi = a[q * size + i];
    a[p * size + i] = c * api - s * aqi;
    a[q * size + i] = s * api + c * aqi;
    const vip = v[i * size + p];
    const viq = v[i * size + q];
    v[i * size + p] = c * vip - s * viq;
    v[i * size + q] = s * vip + c * viq;
  }
}

function fixSign(row: Float64Array): void {
  let largest = 0;
  for (const value of row) if (Math.abs(value) > Math.abs(largest)) largest = value;
  if (largest < 0) for (let j = 0; j < row.length; j++) row[j] = -row[j];
}
