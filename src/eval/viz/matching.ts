/**
 * Correspondences between two pictures from their patch features: each other's nearest patch by cosine, kept where it is
 * clearly nearer than the best patch elsewhere (Lowe's ratio test), placed between patches by the peak of the similarity.
 */

import { UsageError } from '../../errors.js';
import type { Gpu } from '../../gpu/device.js';
import { nearestNeighbours } from '../knn.js';
import type { PatchGrid } from './patch_grids.js';

export interface MatchOptions {
  /**
   * The distance to the nearest patch over that to the nearest one elsewhere must be below this; 1 keeps all. Distances are
   * those of unit vectors, √(2 − 2 cos). Patches next to the nearest one see the same thing and do not count as elsewhere.
   */
  readonly ratio?: number;
  /** Places matches in the second picture between patches. Default true. */
  readonly refine?: boolean;
  /** Cosine that a match must have at least. Default -1. */
  readonly leastSimilarity?: number;
}

export interface PatchMatch {
  /** [x, y] in patches of the first picture, from its left upper corner: centres of patches, so 0.5, 1.5, … */
  readonly a: readonly [number, number];
  /** [x, y] in the second picture. */
  readonly b: readonly [number, number];
  /** Cosine of the two patches' features. */
  readonly similarity: number;
  /** See {@link MatchOptions.ratio}; 0 where there is no patch elsewhere. */
  readonly ratio: number;
}

export const MATCH_RATIO = 0.95;

/** The nearest patch, its eight neighbours, and one elsewhere. */
const CANDIDATES = 10;

/**
 * @param dim values of a patch
 * @returns matches, the surest first: by ratio, then by similarity, then in the order of the first picture's patches
 * @throws UsageError for a ratio outside 0 to 1
 */
export async function mutualMatches(
  gpu: Gpu,
  a: PatchGrid,
  b: PatchGrid,
  dim: number,
  options: MatchOptions = {},
): Promise<PatchMatch[]> {
  const { ratio = MATCH_RATIO, refine = true, leastSimilarity = -1 } = options;
  if (!(ratio > 0 && ratio <= 1)) throw new UsageError(`a ratio of ${ratio}: give a number above 0, 1 at most`);
  const forward = await nearestNeighbours(gpu, a.features, b.features, dim, CANDIDATES);
  const back = await nearestNeighbours(gpu, b.features, a.features, dim, 1);
  const matches: PatchMatch[] = [];
  for (let patch = 0; patch < a.rows * a.columns; patch++) {
    const at = patch * forward.k;
    const nearest = forward.indices[at];
    const similarity = forward.similarities[at];
    if (back.indices[nearest] !== patch || similarity < leastSimilarity) continue;
    const elsewhere = Array.from({ length: forward.k }, (_, i) => at + i).find(
      (i) => !areNeighbours(forward.indices[i], nearest, b.columns),
    );
    const found = elsewhere === undefined ? 0 : distance(similarity) / distance(forward.similarities[elsewhere]);
    // Two equal patches are 0 / 0: as ambiguous as can be.
    if (ratio < 1 && !(found < ratio)) continue;
    const peak = refine ? similarityPeak(a, patch, b, nearest, dim) : [0, 0];
    matches.push({
      a: centreOf(patch, a.columns),
      b: [(nearest % b.columns) + 0.5 + peak[0], Math.floor(nearest / b.columns) + 0.5 + peak[1]],
      similarity,
      ratio: Number.isNaN(found) ? 1 : found,
    });
  }
  return matches.sort((one, other) => one.ratio - other.ratio || other.similarity - one.similarity);
}

function centreOf(patch: number, columns: number): [number, number] {
  return [(patch % columns) + 0.5, Math.floor(patch / columns) + 0.5];
}

function areNeighbours(one: number, other: number, columns: number): boolean {
  const across = Math.abs((one % columns) - (other % columns));
  const down = Math.abs(Math.floor(one / columns) - Math.floor(other / columns));
  return across <= 1 && down <= 1;
}

/** Of unit vectors with this cosine; rounding may take a cosine past 1. */
function distance(cosine: number): number {
  return Math.sqrt(Math.max(2 - 2 * cosine, 0));
}

/**
 * Where between the patches around `nearest` the similarity to a patch of `a` peaks: the vertex of a parabola through three
 * neighbours, along each axis. (A surface through all nine places matches of shifted pictures no better.) No offset where a
 * neighbour is missing or not lower.
 * @returns [x, y], each within half a patch
 */
function similarityPeak(a: PatchGrid, patch: number, b: PatchGrid, nearest: number, dim: number): [number, number] {
  const [column, row] = [nearest % b.columns, Math.floor(nearest / b.columns)];
  const similarity = (other: number): number => cosine(a.features, patch * dim, b.features, other * dim, dim);
  const centre = similarity(nearest);
  const along = (place: number, count: number, step: number): number => {
    if (place === 0 || place === count - 1) return 0;
    const [before, after] = [similarity(nearest - step), similarity(nearest + step)];
    const curvature = before - 2 * centre + after;
    if (!(curvature < 0)) return 0;
    return Math.min(Math.max((before - after) / (2 * curvature), -0.5), 0.5);
  };
  return [along(column, b.columns, 1), along(row, b.rows, b.columns)];
}

function cosine(a: Float32Array, aStart: number, b: Float32Array, bStart: number, length: number): number {
  let [product, aSquares, bSquares] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    const [x, y] = [a[aStart + i], b[bStart + i]];
    product += x * y;
    aSquares += x * x;
    bSquares += y * y;
  }
  return product / Math.max(Math.sqrt(aSquares * bSquares), 1e-24);
}
