import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { evalKnn, type EvalKnnArguments, knnTable } from '../../src/cli/eval.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

test('webdino eval knn: table, JSON, baselines, and a line in the run’s folder', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['red', 'green', 'blue'], 4);
    await writePictures(sources.test, ['red', 'green', 'blue'], 2);

    const table = await outputOf(() => evalKnn({ model: run, ...sources, k: '1,3', baselines: true }));
    const lines = table.stdout.split('\n').map((line) => line.split(/\s{2,}/));
    t.deepEqual(lines[0], ['kNN, %', 'k=1 top-1', 'top-5', 'k=3 top-1', 'top-5'], 'columns');
    t.deepEqual(lines.map(([name]) => name).slice(1), ['teacher', 'untrained', 'raw pixels'], 'rows');
    t.deepEqual(lines[1].slice(1), ['100.0', '100.0', '100.0', '100.0'], 'colours are easy');
    t.ok(/64 x 2, 1 heads, patch 8/.test(table.stderr), 'the model, on standard error');

    const { stdout, stderr } = await outputOf(() =>
      evalKnn({ model: join(run, 'checkpoints', 'step_0000007'), ...sources, k: [1, 20], json: true, student: true }),
    );
    const result = JSON.parse(stdout);
    t.equal(result.network, 'student');
    t.equal(result.step, 7);
    t.deepEqual([result.size, result.resize], [32, 36], 'sizes of the configuration');
    t.deepEqual(result.rows[0].scores[1].neighbours, 12, 'more neighbours than pictures are capped');
    t.ok(/there are 12 training pictures/.test(stderr), 'and that is said');

    const written = readFileSync(join(run, 'results_eval_knn.json'), 'utf8').trimEnd().split('\n');
    const records = written.map((line) => JSON.parse(line));
    t.equal(records.length, 2, 'a line an evaluation');
    t.equal(records[0]["('full', 3) Top 1"], 100, 'under the official keys');
    t.equal(records[1].network, 'student');

    const shots = await outputOf(() =>
      evalKnn({ model: run, ...sources, k: '1', nPerClass: '2', nTries: '2', json: true, size: '16', dtype: 'f16' }),
    );
    const fewShot = JSON.parse(shots.stdout);
    const { nPerClass, size, resize, dtype } = fewShot;
    t.deepEqual([nPerClass, size, resize, dtype], [2, 16, 18, 'f16'], 'few shots, smaller crops, half precision');
    t.deepEqual(
      fewShot.rows[0].scores.map(({ k }: { k: number }) => k),
      [1, 2],
    );
  });
});

test('webdino eval knn: classes by name where the folders number them differently', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['blue', 'green', 'red'], 2);
    await writePictures(sources.test, ['green', 'red'], 1);
    const { stdout } = await outputOf(() => evalKnn({ model: run, ...sources, k: '1', json: true }));
    t.equal(JSON.parse(stdout).rows[0].scores[0].top1, 100, 'red is class 2 here and class 1 there');
  });
});

test('webdino eval knn: what cannot be is said in one line', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['red', 'green'], 1);
    await writePictures(sources.test, ['red', 'grey'], 1);
    await writePictures(join(folder, 'same'), ['red', 'green'], 1);
    const flat = join(folder, 'flat');
    writeFolder(flat, [['a.png', readFileSync(join(sources.train, 'red', '0.png'))]]);
    const good = { model: run, train: sources.train, test: join(folder, 'same') };
    const refused = async (
      options: Partial<EvalKnnArguments>,
      kind: typeof WebdinoError,
      pattern: RegExp,
    ): Promise<void> => {
      try {
        await outputOf(() => evalKnn({ ...good, ...options }));
        t.fail(`${JSON.stringify(options)} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({ model: '' }, UsageError, /--model is missing/);
    await refused({ k: '10,many' }, UsageError, /--k takes a whole number from 1, not "many"/);
    await refused({ dtype: 'fp16' }, UsageError, /--dtype fp16 is unknown; use f32 or f16/);
    await refused({ temperature: '0' }, UsageError, /--temperature/);
    await refused({ size: '30', resize: '36' }, UsageError, /use --size 32/);
    await refused({ resize: '16' }, UsageError, /--resize 16 is smaller than the crop of 32/);
    await refused({ heads: '3' }, DataError, /does not divide into 3 heads/);
    await refused({ test: sources.test }, DataError, /1 of 2 classes that .* has not: "grey"/);
    await refused({ train: flat }, DataError, /--train .*flat: its pictures have no class/);
    await refused({ test: join(folder, 'nowhere') }, DataError, /nowhere cannot be opened/);
    await refused({ model: join(folder, 'train') }, DataError, /holds no model/);
    const config = join(run, 'config.yaml');
    writeFolder(run, [['config.yaml', readFileSync(config, 'utf8').replace('depth: 2', 'depth: 3')]]);
    await refused({}, DataError, /has depth 2, but .*config\.yaml says 3/);
  });
});

test('knnTable: columns line up', (t) => {
  const score = (k: number, top1: number) => ({ k, neighbours: k, top1, top5: 100 });
  t.equal(
    knnTable([
      { name: 'teacher', scores: [score(10, 9.96), score(200, 50)] },
      { name: 'raw pixels', scores: [score(10, 0), score(200, 100)] },
    ]),
    [
      'kNN, %      k=10 top-1  top-5  k=200 top-1  top-5',
      'teacher           10.0  100.0         50.0  100.0',
      'raw pixels         0.0  100.0        100.0  100.0',
    ].join('\n'),
  );
  t.end();
});
