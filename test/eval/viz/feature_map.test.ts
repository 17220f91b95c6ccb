/** Maps of features that lie in known clusters: the same for a seed, and with the clusters apart. */

import test from 'tape';
import { DataError } from '../../../src/errors.js';
import { featureMap } from '../../../src/eval/viz/feature_map.js';
import { galleryNeighbours } from '../../../src/eval/viz/neighbours.js';
import { noise, sameBits, testGpu } from '../../fixture.js';

const [DIM, CLUSTERS, EACH] = [12, 3, 16];

/** Row i belongs to cluster i % CLUSTERS. */
function clusters(): Float32Array {
  const jitter = noise(CLUSTERS * EACH * DIM, 5);
  return jitter.map((value, i) => {
    const [row, column] = [Math.floor(i / DIM), i % DIM];
    return 0.15 * value + (column % CLUSTERS === row % CLUSTERS ? 1 : 0);
  });
}

test('featureMap: one seed, one map; clusters stay apart', async (t) => {
  const gpu = await testGpu();
  const features = clusters();
  // Two equal pictures.
  features.copyWithin(0, CLUSTERS * DIM, (CLUSTERS + 1) * DIM);
  const epochs: number[] = [];
  const options = { neighbours: 8, epochs: 80, seed: 4 };
  const map = await featureMap(gpu, features, DIM, { ...options, onEpoch: (epoch) => epochs.push(epoch) });
  t.equal(epochs.length, 80, 'each epoch is told');
  t.equal(map.length, 2 * CLUSTERS * EACH);
  t.ok(map.every(Number.isFinite), 'finite');
  sameBits(t, await featureMap(gpu, features, DIM, options), map, 'the same bits for a seed');
  const other = await featureMap(gpu, features, DIM, { ...options, seed: 5 });
  t.ok(
    other.some((value, i) => value !== map[i]),
    'others for another',
  );
  let right = 0;
  for (let i = 0; i < CLUSTERS * EACH; i++) {
    let [best, nearest] = [Number.POSITIVE_INFINITY, -1];
    for (let j = 0; j < CLUSTERS * EACH; j++) {
      const distance = Math.hypot(map[2 * i] - map[2 * j], map[2 * i + 1] - map[2 * j + 1]);
      if (j !== i && distance < best) [best, nearest] = [distance, j];
    }
    if (nearest % CLUSTERS === i % CLUSTERS) right++;
  }
  t.equal(right, CLUSTERS * EACH, 'the nearest point on the map is of the same cluster');
  try {
    await featureMap(gpu, features.subarray(0, 8 * DIM), DIM, { neighbours: 8 });
    t.fail('8 pictures by 8 neighbours were taken');
  } catch (error) {
    t.ok(error instanceof DataError && /too few/.test(error.message), (error as Error).message);
  }
});

test('galleryNeighbours: a picture is not its own neighbour', async (t) => {
  const gpu = await testGpu();
  const gallery = clusters();
  // Rows 1 and 4 are equal: whichever comes first, neither is its own neighbour.
  gallery.copyWithin(4 * DIM, DIM, 2 * DIM);
  const itself = [0, 1, 4];
  const queries = Float32Array.from(itself.flatMap((row) => [...gallery.subarray(row * DIM, (row + 1) * DIM)]));
  const found = await galleryNeighbours(gpu, { queries, gallery, dim: DIM, k: 5, itself });
  found.forEach((neighbours, q) => {
    t.equal(neighbours.length, 5, 'as many as asked');
    t.ok(
      neighbours.every(({ row }) => row !== itself[q] && row % CLUSTERS === itself[q] % CLUSTERS),
      'others, of its kind',
    );
    t.ok(
      neighbours.every(({ similarity }, i) => i === 0 || neighbours[i - 1].similarity >= similarity),
      'nearest first',
    );
  });
  t.equal(found[1][0].row, 4, 'its copy is');
  const own = await galleryNeighbours(gpu, { queries, gallery, dim: DIM, k: 1 });
  t.deepEqual(
    own.map(([{ row }]) => row),
    [0, 1, 1],
    'with other queries every picture counts',
  );
  try {
    await galleryNeighbours(gpu, { queries, gallery, dim: DIM, k: CLUSTERS * EACH, itself });
    t.fail('more neighbours than others were given');
  } catch (error) {
    t.ok(/47 other pictures: give a smaller --k/.test((error as Error).message), (error as Error).message);
  }
});
