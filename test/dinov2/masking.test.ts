import test from 'tape';
import { CounterRandom } from '../../src/data/random.js';
import {
  collateFromMasks,
  collateMasks,
  generateBlockMask,
  type MaskSettings,
  maskUpperbound,
  maxBlockPatches,
} from '../../src/dinov2/masking.js';
import { WebdinoError } from '../../src/errors.js';

test('the largest block follows the official floor divisions', (t) => {
  // Spec §12.4: crop / patch → patches.
  const known = [
    [224, 14, 128],
    [224, 16, 98],
    [518, 14, 666],
    [98, 14, 21],
    [448, 14, 512],
    [416, 16, 338],
  ];
  for (const [crop, patch, want] of known) {
    t.equal(maxBlockPatches([crop / patch, crop / patch]), want, `${crop} / ${patch}`);
  }
  t.end();
});

function statistics(size: number, target: number, draws: number) {
  const counts = Array.from({ length: draws }, (_, i) => {
    const mask = new Uint8Array(size * size);
    const reported = generateBlockMask(mask, [size, size], target, new CounterRandom(5, size, target, i));
    const count = mask.reduce((a, b) => a + b);
    return reported === count ? count : Number.NaN;
  });
  return {
    mean: counts.reduce((a, b) => a + b) / draws,
    exact: counts.filter((count) => count === target).length / draws,
    most: Math.max(...counts),
    least: Math.min(...counts),
  };
}

test('block masks have the measured statistics of the official generator', (t) => {
  // Spec §12.4, 2000 draws on 16 × 16: mean, exact in 89.8–93.2 %, minimum 23 / 49 / 74 / 99 / 121.
  const known = [
    [25, 24.9, 22],
    [51, 50.9, 47],
    [76, 75.9, 72],
    [102, 101.9, 96],
    [128, 127.9, 117],
  ];
  for (const [target, mean, floor] of known) {
    const got = statistics(16, target, 2000);
    t.ok(Math.abs(got.mean - mean) < 0.1, `target ${target}: mean ${got.mean}`);
    t.ok(got.exact > 0.88 && got.exact < 0.95, `target ${target}: exact ${got.exact}`);
    t.equal(got.most, target, 'never more than the target');
    t.ok(got.least >= floor, `target ${target}: least ${got.least}`);
  }
  const large = statistics(37, 400, 400);
  t.ok(large.exact > 0.8 && large.exact < 0.95, `37 × 37: exact ${large.exact}`);
  t.end();
});

test('blocks stay strictly inside the grid', (t) => {
  // Always the upper ends: area 4 and aspect 1 / 0.3 make blocks of 4 × 1, rounded from 3.65 × 1.10.
  const tall = {
    uniform: (_: number, hi: number) => hi,
    integer: (lo: number) => lo,
    permutation: (n: number) => new Uint32Array(n),
  };
  const square = new Uint8Array(16);
  t.equal(generateBlockMask(square, [4, 4], 4, tall), 0, 'as high as the grid: refused');
  const higher = new Uint8Array(20);
  t.equal(generateBlockMask(higher, [5, 4], 4, tall), 4);
  t.deepEqual([...higher], [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
  t.end();
});

const GOLDEN_SETTINGS = { grid: [4, 4], sampleProbability: 0.5, ratioMin: 0.1, ratioMax: 0.5 } as const;

test('the upper bound equals what PyTorch computed', (t) => {
  // Values stored with the reference steps: 16 patches, 2B = 8, 10, 12.
  t.deepEqual(
    [8, 10, 12].map((batch2) => maskUpperbound({ batch2, ...GOLDEN_SETTINGS })),
    [21, 25, 28],
  );
  // Σ int(256 · linspace(0.1, 0.5, 5)[1:]) = 51 + 76 + 102 + 128.
  t.equal(maskUpperbound({ ...GOLDEN_SETTINGS, batch2: 8, grid: [16, 16] }), 357);
  t.equal(maskUpperbound({ ...GOLDEN_SETTINGS, batch2: 1 }), 0, 'one crop at probability 0.5: none is masked');
  t.end();
});

test('collated masks are stratified, shuffled and indexed', (t) => {
  const settings: MaskSettings = { ...GOLDEN_SETTINGS, batch2: 16, grid: [16, 16] };
  const patches = 256;
  const everMasked = new Set<number>();
  const meanRatios = new Float64Array(8);
  const repeats = 60;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const batch = collateMasks(settings, new CounterRandom(4, repeat));
    const perCrop = Array.from({ length: 16 }, (_, crop) =>
      batch.masks.subarray(crop * patches, (crop + 1) * patches).reduce((a, b) => a + b),
    );
    const masked = perCrop.filter((count) => count > 0).sort((a, b) => a - b);
    if (masked.length !== 8) t.fail(`${masked.length} crops are masked instead of 8`);
    masked.forEach((count, i) => {
      meanRatios[i] += count / patches / repeats;
    });
    perCrop.forEach((count, crop) => {
      if (count > 0) everMasked.add(crop);
    });
    const total = perCrop.reduce((a, b) => a + b);
    const weightSum = batch.masksWeight.reduce((a, b) => a + b);
    const right =
      batch.count === total &&
      batch.count <= batch.upperbound &&
      batch.maskIndices.length === batch.upperbound &&
      batch.maskIndices
        .subarray(0, total)
        .every((at, i, all) => batch.masks[at] === 1 && (i === 0 || at > all[i - 1])) &&
      batch.maskIndices.subarray(total).every((at) => at === 0) &&
      batch.masksWeight.subarray(total).every((weight) => weight === 0) &&
      Math.abs(weightSum - 8) < 1e-4;
    if (!right) t.fail(`batch ${repeat} is inconsistent`);
  }
  t.equal(everMasked.size, 16, 'any crop can be masked');
  meanRatios.forEach((ratio, i) => {
    const middle = 0.1 + (0.4 * (i + 0.5)) / 8;
    t.ok(Math.abs(ratio - middle) < 0.015, `stratum ${i}: mean ratio ${ratio}, middle ${middle}`);
  });
  t.deepEqual(collateMasks(settings, new CounterRandom(4, 3)), collateMasks(settings, new CounterRandom(4, 3)));
  t.notDeepEqual(collateMasks(settings, new CounterRandom(4, 3)), collateMasks(settings, new CounterRandom(4, 4)));
  t.end();
});

test('indices and weights of given masks', (t) => {
  const masks = Uint8Array.from([0, 1, 1, 0, /**/ 0, 0, 0, 0, /**/ 1, 1, 1, 1]);
  const batch = collateFromMasks(masks, 4, 8);
  t.deepEqual([...batch.maskIndices], [1, 2, 8, 9, 10, 11, 0, 0]);
  t.deepEqual([...batch.masksWeight], [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0, 0]);
  t.equal(batch.count, 6);
  t.throws(
    () => collateFromMasks(masks, 4, 5),
    (error: unknown) => error instanceof WebdinoError && /6 .* 5/.test(error.message),
  );
  t.end();
});
