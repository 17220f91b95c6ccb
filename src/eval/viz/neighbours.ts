/** The pictures most like each of some query pictures, and whether their classes agree. */

import { DataError } from '../../errors.js';
import type { Gpu } from '../../gpu/device.js';
import { nearestNeighbours } from '../knn.js';

export interface Neighbour {
  /** Row of the gallery. */
  readonly row: number;
  /** Cosine. */
  readonly similarity: number;
}

/**
 * @param queries [m, dim]
 * @param gallery [n, dim]
 * @param itself the gallery's row of each query, where the queries are among the gallery; it is left out
 * @returns `k` neighbours a query, nearest first
 * @throws DataError for a gallery of fewer pictures
 */
export async function galleryNeighbours(
  gpu: Gpu,
  {
    queries,
    gallery,
    dim,
    k,
    itself,
  }: {
    readonly queries: Float32Array;
    readonly gallery: Float32Array;
    readonly dim: number;
    readonly k: number;
    readonly itself?: readonly number[];
  },
): Promise<Neighbour[][]> {
  const available = gallery.length / dim - (itself ? 1 : 0);
  if (available < k) {
    const among = itself ? `${available} other pictures` : `${available} pictures`;
    throw new DataError(`${k} neighbours among ${among}: give a smaller --k, or more pictures`);
  }
  const nearest = await nearestNeighbours(gpu, queries, gallery, dim, itself ? k + 1 : k);
  return Array.from({ length: queries.length / dim }, (_, q) =>
    Array.from({ length: nearest.k }, (_, i) => ({
      row: nearest.indices[q * nearest.k + i],
      similarity: nearest.similarities[q * nearest.k + i],
    }))
      .filter(({ row }) => row !== itself?.[q])
      .slice(0, k),
  );
}
