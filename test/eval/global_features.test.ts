import test from 'tape';
import { openDataset } from '../../src/data/mnist_source.js';
import { extractFeatures, FeatureExtractor } from '../../src/eval/features.js';
import { pixelModel } from '../../src/eval/floor_models.js';
import { readGlobalFeatures } from '../../src/eval/global_features.js';
import { networkModel } from '../../src/eval/network_model.js';
import type { EvaluationContext } from '../../src/eval/task.js';
import { classificationCrops, TrainingCropLoader } from '../../src/eval/training_crops.js';
import { writePictures } from '../cli/model_fixture.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { allClose, testGpu } from '../fixture.js';
import { TINY_VIT, tinyStore } from './tiny_model.js';

test('global features: CLS of the last blocks and the mean patch token, of a network and of a floor', async (t) => {
  await withFolder(async (folder) => {
    await writePictures(folder, ['blue', 'green', 'red'], 2);
    writeFolder(folder, [['green/broken.png', 'no picture']]);
    const source = await openDataset(folder);
    const gpu = await testGpu();
    const notes: string[] = [];
    const seen: string[] = [];
    const context: EvaluationContext = {
      gpu,
      models: [],
      seed: 0,
      bootstrapDraws: 1,
      crop: 32,
      resize: 36,
      batch: 4,
      cacheFolder: folder,
      note: (text) => notes.push(text),
      progress: (what, done, total) => seen.push(`${what} ${done}/${total}`),
    };
    const weights = await tinyStore();
    const network = networkModel(gpu, { name: 'tiny', vit: TINY_VIT, weights });
    const features = await readGlobalFeatures(context, network, source, {
      lastBlocks: 4,
      patchMean: true,
      labelOf: (label) => 10 + label,
      what: 'features',
    });
    t.equal(features.cls.length, 2, 'a network of two blocks has two');
    t.equal(features.dim, TINY_VIT.embedDim);
    t.equal(features.indices.length, 6, 'without the broken picture');
    t.deepEqual([...features.labels], [10, 10, 11, 11, 12, 12], 'labels as they read elsewhere');
    t.ok(notes.length === 1 && /left out: green\/broken\.png/.test(notes[0]), notes.join());
    t.equal(seen[seen.length - 1], 'features 6/7', 'progress');

    const extractor = new FeatureExtractor(gpu, {
      vit: TINY_VIT,
      weights,
      batch: 4,
      size: 32,
      pooling: 'cls+patch-mean',
    });
    await extractor.compile();
    const both = await extractFeatures(extractor, source, { resize: 36 });
    const half = (from: number): number[] =>
      Array.from({ length: 6 * 64 }, (_, i) => both.features[Math.floor(i / 64) * 128 + from + (i % 64)]);
    allClose(t, features.cls[1], half(0), 'the deepest CLS is that of the extractor');
    allClose(t, features.patchMean!, half(64), 'and so is the mean patch token');
    t.ok(
      features.cls[0].some((v, i) => Math.abs(v - features.cls[1][i]) > 0.01),
      'the other level is another',
    );
    extractor.dispose();

    const pixels = pixelModel(8);
    const some = await readGlobalFeatures(context, pixels, source, { lastBlocks: 4, patchMean: true, indices: [0, 6] });
    t.deepEqual([some.cls.length, some.indices.length], [1, 2], 'a floor has one level; some pictures only');
    const reader = await pixels.open({ size: [32, 32], batch: 1, blocks: [0], norm: true, patches: true, mean: true });
    const { patches, mean } = await reader.read(new Uint8Array(32 * 32 * 3).fill(51), 1);
    t.ok(
      mean!.every((v, c) => Math.abs(v - patches[0][c]) < 1e-6),
      'the mean of equal patches is each of them',
    );
    const plain = await readGlobalFeatures(context, network, source, { lastBlocks: 1, patchMean: false });
    t.equal(plain.patchMean, undefined, 'no mean where none is wanted');
    allClose(t, plain.cls[0], features.cls[1], 'the same CLS');
    network.dispose();
    await source.close();
  });
});

test('training crops: one view a picture, of the pictures that may be shown, the same again', async (t) => {
  await withFolder(async (folder) => {
    await writePictures(folder, ['blue', 'green', 'red'], 4);
    const source = await openDataset(folder);
    const among = [1, 5, 9, 10];
    const take = async (seed: number) => {
      const loader = new TrainingCropLoader(source, { batchSize: 3, seed, settings: classificationCrops(16), among });
      const batches = [await loader.next(), await loader.next(), await loader.next(), await loader.next()];
      await loader.close();
      return batches;
    };
    const batches = await take(1);
    t.ok(
      batches.every(({ pixels }) => pixels.length === 3 * 16 * 16 * 3),
      'one view each',
    );
    const shown = batches.flatMap(({ indices }) => [...indices]);
    t.deepEqual(
      [...new Set(shown)].sort((a, b) => a - b),
      among,
      'only those, all of them',
    );
    t.equal(shown.filter((index) => index === 5).length, 3, 'each once a pass');
    const again = await take(1);
    t.ok(
      again.every(({ pixels }, b) => Buffer.compare(Buffer.from(pixels), Buffer.from(batches[b].pixels)) === 0),
      'the same bits',
    );
    await source.close();
  });
});
