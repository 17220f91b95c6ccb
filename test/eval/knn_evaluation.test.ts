import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { UsageError } from '../../src/errors.js';
import { histogramModel, pixelModel } from '../../src/eval/floor_models.js';
import { evaluateKnn } from '../../src/eval/knn_evaluation.js';
import { openLabelledPair } from '../../src/eval/labelled_pair.js';
import type { EvaluationContext } from '../../src/eval/task.js';
import { writePictures } from '../cli/model_fixture.js';
import { withFolder } from '../data/archives.js';
import { testGpu } from '../fixture.js';

test('evaluateKnn: features in memory and on disk, few-shot draws, refusals', async (t) => {
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    await writePictures(join(folder, 'train'), ['red', 'green', 'blue', 'grey'], 3);
    await writePictures(join(folder, 'test'), ['red', 'green', 'blue', 'grey'], 2);
    const pair = await openLabelledPair(join(folder, 'train'), join(folder, 'test'));
    const context: EvaluationContext = {
      gpu,
      models: [histogramModel(8), pixelModel(8)],
      seed: 0,
      bootstrapDraws: 20,
      crop: 32,
      resize: 36,
      batch: 5,
      cacheFolder: folder,
      note: () => {},
      progress: () => {},
    };
    const before = readdirSync(folder);
    const inMemory = await evaluateKnn(context, { pair, k: [3, 1] });
    const onDisk = await evaluateKnn(context, { pair, k: [3, 1], memoryBytes: 0 });
    t.equal(inMemory.rows[0].scores[0].top1, 100, 'histograms of colours');
    t.deepEqual(
      inMemory.rows[0].scores.map(({ k }) => k),
      [1, 3],
      'rising k',
    );
    t.deepEqual(onDisk.rows, inMemory.rows, 'the same from disk');
    t.deepEqual(readdirSync(folder), before, 'whose file is gone');
    t.equal(inMemory.models[0].metrics[0].name, 'k=1 top1', 'the smallest k is the headline');

    const shots = await evaluateKnn(context, { pair, nPerClass: 2, nTries: 3 });
    t.deepEqual(
      shots.rows[0].scores.map(({ k }) => k),
      [2],
      'k up to the pictures of a class',
    );
    for (const [request, pattern] of [
      [{ k: [] }, /k is empty/],
      [{ k: [0] }, /k is 0/],
      [{ temperature: 0 }, /the temperature is 0/],
      [{ nPerClass: 0.5 }, /0.5 pictures a class/],
    ] as const) {
      try {
        await evaluateKnn(context, { pair, ...request });
        t.fail(`${pattern} was taken`);
      } catch (error) {
        t.ok(error instanceof UsageError && pattern.test(error.message), (error as Error).message);
      }
    }
    await pair.close();
  });
});
