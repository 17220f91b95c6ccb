import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { openSource } from '../../src/data/source.js';
import { knnAccuracy } from '../../src/eval/knn.js';
import { pixelFeatures } from '../../src/eval/pixels.js';
import { pngOf, withFolder, writeFolder } from '../data/archives.js';
import { testGpu } from '../fixture.js';

const DATA = fileURLToPath(new URL('../../../shared/data/', import.meta.url));

test('pixelFeatures: 12 x 12 pixels, each picture without its mean', async (t) => {
  await withFolder(async (folder) => {
    writeFolder(folder, [
      ['0_a/0.png', await pngOf(40, 30)],
      ['1_b/1.png', await pngOf(24, 24, 3)],
    ]);
    const source = await openSource(folder);
    const { features, dim, labels } = await pixelFeatures(source);
    t.deepEqual([dim, features.length, ...labels], [432, 864, 0, 1]);
    for (const i of [0, 1]) {
      const row = features.subarray(i * dim, (i + 1) * dim);
      const mean = row.reduce((sum, value) => sum + value, 0) / dim;
      t.ok(Math.abs(mean) < 1e-4 && row.some((value) => Math.abs(value) > 10), `picture ${i}: centred, not flat`);
    }
    await source.close();
  });
});

test('raw pixels: the known accuracies with 10 neighbours', async (t) => {
  if (!existsSync(DATA)) return t.skip('no ../shared/data beside the project');
  const gpu = await testGpu();
  for (const [set, expected] of [
    ['rsscn7', 33],
    ['grocery', 15],
  ] as const) {
    const sources = await Promise.all(['train', 'val'].map((split) => openSource(`${DATA}${set}/${split}.tar`)));
    const [train, val] = await Promise.all(sources.map((source) => pixelFeatures(source)));
    const labelled = ({ features, labels }: typeof train) => ({ features, labels: labels.map((label) => label!) });
    const [{ top1 }] = await knnAccuracy(gpu, { train: labelled(train), test: labelled(val), dim: train.dim, k: [10] });
    t.ok(Math.abs(top1 - expected) < 1.5, `${set}: ${top1.toFixed(1)} % (known: ${expected} %)`);
    await Promise.all(sources.map((source) => source.close()));
  }
});
