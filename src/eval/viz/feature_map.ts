/**
 * Features on a plane by UMAP (McInnes et al. 2018; npm umap-js): pictures that are neighbours by cosine lie together.
 * Neighbours come exactly from the GPU, the start from a PCA, random numbers from a seeded counter: one seed, one map.
 */

import { UMAP } from 'umap-js';
import { CounterRandom } from '../../data/random.js';
import { DataError, UsageError } from '../../errors.js';
import type { Gpu } from '../../gpu/device.js';
import { nearestNeighbours } from '../knn.js';
import { pca, project } from '../pca.js';

export interface FeatureMapOptions {
  /** Neighbours that count, a picture itself among them. Default 15. */
  readonly neighbours?: number;
  /** Least distance of points on the map. Default 0.1. */
  readonly minDistance?: number;
  /** Default: 200 to 500, fewer for more points. */
  readonly epochs?: number;
  /** Default 0. */
  readonly seed?: number;
  readonly onEpoch?: (epoch: number, epochs: number) => void;
}

export const MAP_NEIGHBOURS = 15;
const MIN_DISTANCE = 0.1;

/** The start spans this much to each side, plus a little noise that parts equal pictures. */
const START_RADIUS = 10;
const START_NOISE = 1e-3;

/** Names the random stream among those of a seed. */
const MAP_STREAM = 0x6d6170;

/**
 * @param features [n, dim]
 * @returns [n, 2]
 * @throws DataError for fewer pictures than neighbours; UsageError for options that cannot be
 */
export async function featureMap(
  gpu: Gpu,
  features: Float32Array,
  dim: number,
  options: FeatureMapOptions = {},
): Promise<Float64Array> {
  const { neighbours = MAP_NEIGHBOURS, minDistance = MIN_DISTANCE, epochs, seed = 0, onEpoch } = options;
  const n = features.length / dim;
  if (!Number.isInteger(neighbours) || neighbours < 2) {
    throw new UsageError(`${neighbours} neighbours: a map needs a whole number from 2`);
  }
  if (n <= neighbours) {
    throw new DataError(
      `${n} pictures are too few for a map by ${neighbours} neighbours: give fewer, or more pictures`,
    );
  }
  const nearest = await nearestNeighbours(gpu, features, features, dim, neighbours);
  const random = new CounterRandom(seed, MAP_STREAM);
  const umap = new UMAP({
    nComponents: 2,
    nNeighbors: neighbours,
    minDist: minDistance,
    random: () => random.uniform(),
    ...(epochs !== undefined && { nEpochs: epochs }),
  });
  const rows = Array.from({ length: n }, (_, i) => withItselfFirst(i, nearest, neighbours));
  umap.setPrecomputedKNN(
    rows.map((row) => row.map(({ index }) => index)),
    rows.map((row) => row.map(({ distance }) => distance)),
  );
  // The vectors themselves are not read once neighbours are given, only counted.
  const total = umap.initializeFit(Array.from({ length: n }, () => []));
  // The embedding that it hands out is the one that it goes on with.
  startFromPca(umap.getEmbedding(), features, n, dim, random);
  for (let epoch = 1; epoch <= total; epoch++) {
    umap.step();
    onEpoch?.(epoch, total);
  }
  const embedding = umap.getEmbedding();
  return Float64Array.from({ length: 2 * n }, (_, i) => embedding[i >> 1][i & 1]);
}

interface Neighbour {
  readonly index: number;
  /** 1 − cosine. */
  readonly distance: number;
}

/** UMAP counts a point as its own nearest; among equal pictures another one may have come before it. */
function withItselfFirst(
  point: number,
  nearest: { readonly k: number; readonly indices: Uint32Array; readonly similarities: Float32Array },
  count: number,
): Neighbour[] {
  const others: Neighbour[] = [];
  for (let i = point * nearest.k; i < (point + 1) * nearest.k; i++) {
    const index = nearest.indices[i];
    if (index !== point) others.push({ index, distance: Math.max(1 - nearest.similarities[i], 0) });
  }
  return [{ index: point, distance: 0 }, ...others].slice(0, count);
}

/** Writes the first two principal components of the unit vectors into an embedding. */
function startFromPca(
  embedding: number[][],
  features: Float32Array,
  n: number,
  dim: number,
  random: CounterRandom,
): void {
  const unit = new Float32Array(features.length);
  for (let i = 0; i < n; i++) {
    let squares = 0;
    for (let j = 0; j < dim; j++) squares += features[i * dim + j] ** 2;
    const scale = 1 / Math.max(Math.sqrt(squares), 1e-12);
    for (let j = 0; j < dim; j++) unit[i * dim + j] = features[i * dim + j] * scale;
  }
  const axes = pca(unit, n, dim, 2);
  const scores = project(axes, unit, n);
  const count = axes.components.length / dim;
  const widest = scores.reduce((most, score) => Math.max(most, Math.abs(score)), 1e-12);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 2; c++) {
      const score = c < count ? scores[i * count + c] : 0;
      embedding[i][c] = (START_RADIUS * score) / widest + START_NOISE * random.normal();
    }
  }
}
