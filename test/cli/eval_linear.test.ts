import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { type EvalLinearArguments, evalLinear } from '../../src/cli/eval_linear.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import { withFolder } from '../data/archives.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

const QUICK = { iterations: 30, trainBatch: 8, lrs: '0.5,2', draws: 50, json: true } as const;

async function reportOf(options: EvalLinearArguments): Promise<EvaluationReport> {
  const { stdout } = await outputOf(() => evalLinear(options));
  return JSON.parse(stdout) as EvaluationReport;
}

test('webdino eval linear: stored features and fresh crops, floors, files', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['blue', 'green', 'red'], 4);
    await writePictures(sources.test, ['green', 'red'], 3);
    const out = join(folder, 'out');

    const report = await reportOf({ model: run, ...sources, ...QUICK, augment: false, out });
    const [own] = report.models;
    t.equal(report.task, 'linear');
    t.deepEqual(
      report.models.map(({ floor }) => floor),
      [false, true, true, true],
      'the model, then the floors',
    );
    t.deepEqual([own.metrics[0].name, own.metrics[0].value], ['top1', 100], 'colours are easy');
    t.equal(own.metrics.at(-1)!.name, 'ece', 'calibration');
    t.ok(
      [1, 2].includes(Number(own.chosen!.blocks)) && /^classifier_\d_blocks_avgpool_/.test(String(own.chosen!.head)),
      String(own.chosen!.head),
    );
    t.equal(report.margins.length, 3);
    const { settings, notes } = report;
    t.deepEqual([settings.iterations, settings.trainBatch, settings.heads, settings.selection], [30, 8, 8, 'test']);
    t.equal(settings.features, 'evaluation crops, once');
    t.ok(
      notes.some((note) => /chosen on the test pictures themselves/.test(note)),
      'that the choice is optimistic is said',
    );
    t.ok(
      notes.some((note) => /teacher of .* has 2 blocks: 8 heads, on the last 1 and 2/.test(note)),
      'fewer than 4 blocks',
    );
    t.ok(
      notes.some((note) => /raw pixels has one level of features: 4 heads, on the last 1/.test(note)),
      'a floor',
    );
    t.ok(
      notes.some((note) => /1 of 3 classes have no test picture \(blue\)/.test(note)),
      'a class without test pictures',
    );
    for (const file of ['results.json', 'results.csv', 'report.html']) t.ok(existsSync(join(out, file)), file);
    t.ok(readFileSync(join(out, 'results.csv'), 'utf8').includes('top1'), 'the table');

    const again = await reportOf({ model: run, ...sources, ...QUICK, augment: false });
    t.deepEqual(again.models, report.models, 'the same numbers twice');

    const fresh = await reportOf({ model: run, ...sources, ...QUICK, augment: true, floors: false, holdOut: 0.25 });
    t.equal(fresh.models.length, 1, 'without floors');
    t.equal(fresh.settings.features, 'random resized crops through the network at every step');
    t.equal(fresh.settings.selection, '3 training pictures held out');
    t.equal(fresh.train.pictures, 9, 'which are not learned from');
    t.notOk(
      fresh.notes.some((note) => /optimistic/.test(note)),
      'an honest choice',
    );
    t.ok(fresh.models[0].metrics[0].value >= 50, `top1 ${fresh.models[0].metrics[0].value}`);
  });
});

test('webdino eval linear: another set chooses; multi-labels; only classes of the test set', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['blue', 'green', 'red'], 3);
    await writePictures(sources.test, ['green', 'red'], 2);
    const val = join(folder, 'val');
    await writePictures(val, ['green', 'red'], 1);
    const real = join(folder, 'real.json');
    // Green is 0 and red 1 in the test set: both greens may be either, a red one has no label, the other is wrongly named.
    writeFileSync(real, JSON.stringify([[0, 1], [0], [], [0]]));
    const options = { model: run, ...sources, ...QUICK, augment: false, floors: false };
    const report = await reportOf({ ...options, val, real, onlyTestClasses: true });
    t.equal(report.settings.selection, val);
    const values = Object.fromEntries(report.models[0].metrics.map(({ name, value }) => [name, Math.round(value)]));
    t.equal(values.top1, 100);
    t.equal(values.real, 67, 'two of the three pictures that have labels');
    t.ok(report.settings.onlyTestClasses, 'said in the settings');

    const refused = async (
      more: Partial<EvalLinearArguments>,
      kind: typeof WebdinoError,
      pattern: RegExp,
    ): Promise<void> => {
      try {
        await outputOf(() => evalLinear({ ...options, ...more }));
        t.fail(`${JSON.stringify(more)} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({ grid: 'mine' }, UsageError, /--grid mine is unknown; use official or paper/);
    await refused({ lrs: '0.1,fast' }, UsageError, /--lrs takes positive numbers/);
    await refused({ iterations: '0' }, UsageError, /--iterations takes a whole number from 1/);
    await refused({ val, holdOut: '0.1' }, UsageError, /--val and --hold-out both choose the head: give one/);
    await refused({ holdOut: '1' }, UsageError, /--hold-out 1 of 9 pictures/);
    writeFileSync(real, JSON.stringify([[0]]));
    await refused({ real }, DataError, /classes of 1 pictures; .* has 4 pictures/);
    writeFileSync(real, '{');
    await refused({ real }, DataError, /cannot be read as JSON/);
    await refused({ test: undefined }, UsageError, /--test is missing/);
  });
});
