import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { type EvalLogisticArguments, evalLogistic } from '../../src/cli/eval_logistic.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import { withFolder } from '../data/archives.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

const QUICK = { cValues: '0.001,1,1000', draws: 20, json: true } as const;

async function reportOf(options: EvalLogisticArguments): Promise<EvaluationReport> {
  const { stdout } = await outputOf(() => evalLogistic(options));
  return JSON.parse(stdout) as EvaluationReport;
}

test('webdino eval logistic: C from a tenth of the training pictures, from another set, from the test set', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['blue', 'green', 'red'], 4);
    await writePictures(sources.test, ['green', 'red'], 2);
    const val = join(folder, 'val');
    await writePictures(val, ['green', 'red'], 1);
    const out = join(folder, 'out');

    const report = await reportOf({ model, ...sources, ...QUICK, out });
    const [own] = report.models;
    t.equal(report.task, 'logistic');
    t.equal(report.models.length, 4, 'the model, then the floors');
    t.deepEqual([own.metrics[0].name, own.metrics[0].value], ['top1', 100], 'colours are easy');
    t.equal(own.metrics.at(-1)!.name, 'ece', 'calibration');
    t.ok([0.001, 1, 1000].includes(Number(own.chosen!.C)), `C ${own.chosen!.C}`);
    t.deepEqual(
      [report.settings.selection, report.settings.resize, report.settings.maxIterations],
      ['a tenth of the training pictures', 32, 1000],
      'resized to the crop itself',
    );
    for (const file of ['results.json', 'results.csv', 'report.html']) t.ok(existsSync(join(out, file)), file);
    const again = await reportOf({ model, ...sources, ...QUICK });
    t.deepEqual(again.models, report.models, 'the same numbers twice');

    const chosen = await reportOf({ model, ...sources, ...QUICK, floors: false, val, perClass: true });
    t.equal(chosen.settings.selection, val);
    t.equal(chosen.models[0].metrics[0].name, 'meanPerClass', 'the headline');
    t.equal(chosen.models[0].chosen!['selection mean per class %'], 100);

    const short = await reportOf({ model, ...sources, ...QUICK, floors: false, selectOnTest: true, maxIter: '1' });
    t.equal(short.settings.selection, 'test');
    t.ok(
      short.notes.some((note) => /optimistic/.test(note)),
      'that the choice is optimistic is said',
    );
    t.ok(
      short.notes.some((note) => /3 of 3 C had not converged after 1 iterations/.test(note)),
      'and that it was cut short',
    );
  });
});

test('webdino eval logistic: what cannot be is said in one line', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['green', 'red'], 1);
    await writePictures(sources.test, ['green', 'red'], 1);
    const refused = async (
      options: Partial<EvalLogisticArguments>,
      kind: typeof WebdinoError,
      pattern: RegExp,
    ): Promise<void> => {
      try {
        await outputOf(() => evalLogistic({ model, ...sources, ...QUICK, floors: false, ...options }));
        t.fail(`${JSON.stringify(options)} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({ cValues: '1,much' }, UsageError, /--c-values takes positive numbers/);
    await refused({ maxIter: '0' }, UsageError, /--max-iter takes a whole number from 1/);
    await refused({ val: sources.test, selectOnTest: true }, UsageError, /both choose C: give one/);
    // Of two training pictures one chooses C, which leaves a single class.
    await refused({}, DataError, /needs two classes; all 1 rows are of class/);
    await refused({ train: undefined }, UsageError, /--train is missing/);
  });
});
