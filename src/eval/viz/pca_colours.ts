/**
 * Patch features as colours, the paper's figure: a first PCA over the patches of all pictures parts foreground from
 * background; three components of a second one over the foreground are red, green and blue. A basis is fitted once and
 * colours any number of pictures after that, so that pictures of different calls can be compared.
 *
 * All signs are fixed. The foreground is the side of the first component that the borders of the pictures are less on (objects
 * are seldom cut by all four); of each colour the largest loading is positive.
 *
 * Source: spec §9 (paper, PCA figure).
 */

import { DataError } from '../../errors.js';
import { encodeSafetensors, readSafetensors, type TensorToStore } from '../../io/safetensors.js';
import { type Pca, pca, project } from '../pca.js';
import { gridTaps } from './grid_taps.js';
import type { PatchGrid } from './patch_grids.js';

/** Everything that turns features into colours. */
export interface PcaBasis {
  readonly dim: number;
  /** A patch is foreground where (features − mean) · component is above the threshold. Absent: everything is. */
  readonly foreground?: {
    /** [D] */
    readonly mean: Float64Array;
    /** [D] */
    readonly component: Float64Array;
    readonly threshold: number;
  };
  /** [D] */
  readonly mean: Float64Array;
  /** [3, D] */
  readonly components: Float64Array;
  /** [3]: scores that are colour 0 and 255. */
  readonly low: Float64Array;
  readonly high: Float64Array;
}

/** A basis, and what it was fitted to. */
export interface FittedBasis extends PcaBasis {
  readonly patches: number;
  readonly foregroundPatches: number;
  /** [3]: share of the variance among the foreground's patches. */
  readonly explained: readonly number[];
}

export interface BasisOptions {
  /** Default true; otherwise one PCA over all patches. */
  readonly foreground?: boolean;
  /**
   * Where background ends, from 0 to 1 of the range of the first component. Default: at its mean, so that patches with a
   * positive score stay, as in the paper.
   */
  readonly backgroundThreshold?: number;
  /** The other side of the first component is the foreground. */
  readonly flip?: boolean;
  /** Percent of the scores at each end of a component that may saturate. 0: from the minimum to the maximum. */
  readonly clipPercent?: number;
}

/** A few patches of odd norm would otherwise take the whole range. */
export const CLIP_PERCENT = 0.5;

/** A PCA of three components needs that many patches at least. */
const FEWEST_PATCHES = 4;

/**
 * Fits a basis to the patches of all pictures together.
 * @throws DataError for too few patches, in all or in the foreground
 */
export function fitPcaBasis(grids: readonly PatchGrid[], dim: number, options: BasisOptions = {}): FittedBasis {
  const { foreground = true, backgroundThreshold, flip = false, clipPercent = CLIP_PERCENT } = options;
  const all = joined(grids);
  const patches = all.length / dim;
  if (dim < 3) throw new DataError(`features of ${dim} values have no three components to colour with`);
  if (patches < FEWEST_PATCHES) {
    throw new DataError(`${patches} patches are too few for a PCA: give more pictures, or a larger --size`);
  }
  const whole = pca(all, patches, dim, foreground ? 1 : 3);
  if (!foreground) return { ...coloursOf(whole, all, dim, clipPercent), patches, foregroundPatches: patches };

  const scores = project(whole, all, patches);
  const sign = (bordersAreHigher(grids, scores) ? -1 : 1) * (flip ? -1 : 1);
  for (let i = 0; i < patches; i++) scores[i] *= sign;
  const component = whole.components.map((value) => sign * value);
  const threshold = backgroundThreshold === undefined ? 0 : atShareOfRange(scores, backgroundThreshold);
  const kept = Array.from({ length: patches }, (_, i) => i).filter((i) => scores[i] > threshold);
  if (kept.length < FEWEST_PATCHES) {
    throw new DataError(
      `${kept.length} of ${patches} patches are foreground, too few for a PCA: lower --background-threshold, or give ` +
        '--no-foreground',
    );
  }
  const features = new Float32Array(kept.length * dim);
  kept.forEach((row, i) => {
    features.set(all.subarray(row * dim, (row + 1) * dim), i * dim);
  });
  return {
    ...coloursOf(pca(features, kept.length, dim, 3), features, dim, clipPercent),
    foreground: { mean: whole.mean, component, threshold },
    patches,
    foregroundPatches: kept.length,
  };
}

function joined(grids: readonly PatchGrid[]): Float32Array {
  const all = new Float32Array(grids.reduce((sum, { features }) => sum + features.length, 0));
  let at = 0;
  for (const { features } of grids) {
    all.set(features, at);
    at += features.length;
  }
  return all;
}

function coloursOf(
  fitted: Pca,
  features: Float32Array,
  dim: number,
  clipPercent: number,
): Pick<FittedBasis, 'dim' | 'mean' | 'components' | 'low' | 'high' | 'explained'> {
  const scores = project(fitted, features, features.length / dim);
  const ranges = [0, 1, 2].map((c) => {
    const sorted = scores.filter((_, i) => i % 3 === c).sort();
    return [clipPercent, 100 - clipPercent].map((percent) => percentile(sorted, percent));
  });
  return {
    dim,
    mean: fitted.mean,
    components: fitted.components,
    low: Float64Array.from(ranges, ([low]) => low),
    high: Float64Array.from(ranges, ([, high]) => high),
    explained: Array.from(fitted.explained),
  };
}

/** Between the two values around it, linearly. */
function percentile(sorted: Float64Array, percent: number): number {
  const at = (percent / 100) * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

function atShareOfRange(scores: Float64Array, share: number): number {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const score of scores) {
    low = Math.min(low, score);
    high = Math.max(high, score);
  }
  return low + share * (high - low);
}

/** Whether patches at the borders of the pictures score higher on average than those inside. */
function bordersAreHigher(grids: readonly PatchGrid[], scores: Float64Array): boolean {
  const sums = { border: 0, inside: 0 };
  const counts = { border: 0, inside: 0 };
  let at = 0;
  for (const { rows, columns } of grids) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const place = r === 0 || c === 0 || r === rows - 1 || c === columns - 1 ? 'border' : 'inside';
        sums[place] += scores[at++];
        counts[place]++;
      }
    }
  }
  return counts.inside > 0 && sums.border / counts.border > sums.inside / counts.inside;
}

/** A picture made of features. */
export interface ColouredGrid {
  /** [height, width, 3] RGB bytes; background is black. */
  readonly rgb: Uint8Array;
  /** Of the grid's patches, 0 to 1. */
  readonly foregroundShare: number;
}

/**
 * Colours one picture's patches at [height, width] pixels. `smooth` interpolates the features between the centres of the
 * patches (linearly, so that it may be done on their scores); without, each patch is a flat rectangle.
 * @throws DataError for features of another width than the basis was fitted to
 */
export function colourGrid(
  basis: PcaBasis,
  grid: PatchGrid,
  [height, width]: readonly [number, number],
  smooth = true,
): ColouredGrid {
  const { rows, columns, features } = grid;
  const patches = rows * columns;
  if (features.length !== patches * basis.dim) {
    throw new DataError(
      `the basis is of ${basis.dim} features, these have ${features.length / patches}: it was fitted with another model`,
    );
  }
  const { foreground, low, high } = basis;
  const scores = project(basis, features, patches);
  // Without a foreground every patch has the score 1 of it.
  const first = foreground
    ? project({ mean: foreground.mean, components: foreground.component }, features, patches)
    : new Float64Array(patches).fill(1);
  const threshold = foreground?.threshold ?? 0;
  const rgb = new Uint8Array(height * width * 3);
  const [down, across] = [gridTaps(height, rows, smooth), gridTaps(width, columns, smooth)];
  for (let y = 0; y < height; y++) {
    const [top, bottom, v] = [down.low[y] * columns, down.high[y] * columns, down.share[y]];
    for (let x = 0; x < width; x++) {
      const [left, right, u] = [across.low[x], across.high[x], across.share[x]];
      const [a, b, c, d] = [top + left, top + right, bottom + left, bottom + right];
      const [wa, wb, wc, wd] = [(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u];
      if (wa * first[a] + wb * first[b] + wc * first[c] + wd * first[d] <= threshold) continue;
      for (let k = 0; k < 3; k++) {
        const score = wa * scores[3 * a + k] + wb * scores[3 * b + k] + wc * scores[3 * c + k] + wd * scores[3 * d + k];
        const range = high[k] - low[k];
        const share = range > 0 ? (score - low[k]) / range : 0.5;
        rgb[(y * width + x) * 3 + k] = Math.round(255 * Math.min(Math.max(share, 0), 1));
      }
    }
  }
  const kept = first.reduce((sum, score) => sum + (score > threshold ? 1 : 0), 0);
  return { rgb, foregroundShare: kept / patches };
}

const FORMAT = 'webdino pca basis 1';

/** A basis as the bytes of a safetensors file, in float64. */
export function encodePcaBasis(basis: PcaBasis, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  const { dim, foreground, mean, components, low, high } = basis;
  const tensor = (shape: readonly number[], data: Float64Array): TensorToStore => ({ dtype: 'F64', shape, data });
  const tensors: [string, TensorToStore][] = [
    ['mean', tensor([dim], mean)],
    ['components', tensor([3, dim], components)],
    ['low', tensor([3], low)],
    ['high', tensor([3], high)],
  ];
  if (foreground) {
    tensors.push(
      ['foreground.mean', tensor([dim], foreground.mean)],
      ['foreground.component', tensor([dim], foreground.component)],
      ['foreground.threshold', tensor([1], Float64Array.of(foreground.threshold))],
    );
  }
  return encodeSafetensors(tensors, { ...metadata, format: FORMAT });
}

/** @throws DataError for bytes that `encodePcaBasis` did not write */
export function decodePcaBasis(bytes: Uint8Array): PcaBasis {
  const file = readSafetensors(bytes);
  if (file.metadata.format !== FORMAT) {
    throw new DataError('this is no PCA basis: give a file that viz pca --save-basis wrote');
  }
  const mean = file.float64('mean');
  const of = (name: string, length: number): Float64Array => {
    const values = file.float64(name);
    if (values.length !== length) throw new DataError(`${name} has ${values.length} values, not ${length}`);
    return values;
  };
  const dim = mean.length;
  return {
    dim,
    mean,
    components: of('components', 3 * dim),
    low: of('low', 3),
    high: of('high', 3),
    ...(file.tensors.has('foreground.mean') && {
      foreground: {
        mean: of('foreground.mean', dim),
        component: of('foreground.component', dim),
        threshold: of('foreground.threshold', 1)[0],
      },
    }),
  };
}
