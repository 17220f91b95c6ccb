import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { evalKnn, type EvalKnnArguments } from '../../src/cli/eval_knn.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

test('webdino eval knn: table, JSON, baselines, and a line in the run’s folder', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['red', 'green', 'blue'], 4);
    await writePictures(sources.test, ['red', 'green', 'blue'], 2);

    const out = join(folder, 'out');
    const table = await outputOf(() => evalKnn({ model: run, ...sources, k: '1,3', baselines: true, draws: 50, out }));
    const lines = table.stdout.split('\n').map((line) => line.split(/\s{2,}/));
    t.ok(/^knn on /.test(lines[0][0]), lines[0][0]);
    t.deepEqual(
      lines[0].slice(1),
      ['k=1 top1, %', 'k=3 top1, %', 'k=1 meanPerClass, %', 'k=1 ece, %'],
      'columns; three classes have no top-5',
    );
    t.deepEqual(
      lines.slice(2, 5).map(([name]) => name),
      ['random weights', 'raw pixels', 'colour histogram'],
      'the floors, without being asked for',
    );
    t.ok(/^teacher of /.test(lines[1][0]), lines[1][0]);
    t.equal(lines[1][1], '100.0 [100.0, 100.0]', 'colours are easy');
    t.ok(/64 x 2, 1 heads, patch 8/.test(table.stderr), 'the model, on standard error');
    for (const file of ['results.json', 'results.csv', 'report.html']) t.ok(existsSync(join(out, file)), file);

    const { stdout } = await outputOf(() =>
      evalKnn({
        model: join(run, 'checkpoints', 'step_0000007'),
        ...sources,
        k: [1, 20],
        json: true,
        student: true,
        draws: 50,
      }),
    );
    const result = JSON.parse(stdout);
    t.ok(/^student of /.test(result.models[0].model), result.models[0].model);
    t.equal(result.settings.networks[0].step, 7);
    t.deepEqual([result.settings.crop, result.settings.resize], [32, 36], 'sizes of the configuration');
    t.deepEqual(result.rows[0].scores[1].neighbours, 12, 'more neighbours than pictures are capped');
    t.ok(/there are 12 training pictures/.test(result.notes[0]), 'and that is said');
    t.equal(result.margins.length, 3, 'a margin for each floor');
    t.equal(result.margins[0].metric, 'k=1 top1', 'in the headline');

    const written = readFileSync(join(run, 'results_eval_knn.json'), 'utf8').trimEnd().split('\n');
    const records = written.map((line) => JSON.parse(line));
    t.equal(records.length, 2, 'a line an evaluation');
    t.equal(records[0]["('full', 3) Top 1"], 100, 'under the official keys');
    t.equal(records[1].network, 'student');

    const shots = await outputOf(() =>
      evalKnn({
        model: run,
        ...sources,
        k: '1',
        nPerClass: '2',
        nTries: '2',
        json: true,
        size: '16',
        dtype: 'f16',
        floors: false,
      }),
    );
    const fewShot = JSON.parse(shots.stdout);
    const { nPerClass, crop, resize, networks } = fewShot.settings;
    t.deepEqual([nPerClass, crop, resize, networks[0].dtype], [2, 16, 18, 'f16'], 'few shots, small crops, halves');
    t.deepEqual(
      fewShot.rows[0].scores.map(({ k }: { k: number }) => k),
      [1, 2],
    );
    t.equal(fewShot.models.length, 1, 'without floors');
    t.ok(/2 training pictures of each class, averaged over 2 draws/.test(fewShot.notes[0]), fewShot.notes[0]);
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
