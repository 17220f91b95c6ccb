import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { type EvaluationArguments, runEvaluation } from '../../src/cli/evaluation.js';
import { DataError, UsageError } from '../../src/errors.js';
import { bootstrapDraws, bootstrapMetric, interval, pairedMargin } from '../../src/eval/bootstrap.js';
import type { EvaluationReport, Metric } from '../../src/eval/result.js';
import type { EvaluationContext } from '../../src/eval/task.js';
import { noise } from '../fixture.js';
import { TINY_VIT, tinyFile } from '../eval/tiny_model.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { outputOf, writeRun } from './model_fixture.js';

/** Reads tokens of noise of every model and reports a made-up accuracy that falls from model to model. */
async function fakeTask(context: EvaluationContext, step = 10): Promise<EvaluationReport> {
  const { models, crop, batch, cacheFolder } = context;
  writeFileSync(join(cacheFolder, 'features'), 'x');
  context.note('a note on the way');
  const pixels = Uint8Array.from(noise(2 * crop * crop * 3, 1), (value) => 128 + 127 * value);
  const draws = bootstrapDraws(40, context.bootstrapDraws, context.seed);
  const results: { values: Float64Array; metric: Metric }[] = [];
  for (const [place, model] of models.entries()) {
    const reader = await model.open({
      size: [crop, crop],
      batch,
      blocks: [model.depth - 1],
      norm: true,
      patches: true,
    });
    const { cls, patches } = await reader.read(pixels, 2);
    if (cls[0].length !== 2 * model.dim) throw new Error('CLS tokens');
    if (patches[0].length !== 2 * reader.grid[0] * reader.grid[1] * model.dim) throw new Error('patch tokens');
    reader.dispose();
    const statistic = (sample: Uint32Array): number =>
      (100 * sample.filter((i) => i < 40 - step * place).length) / sample.length;
    const values = bootstrapMetric(draws, statistic);
    const value = 100 - (step / 0.4) * place;
    results.push({ values, metric: { name: 'top1', value, unit: '%', better: 'higher', interval: interval(values) } });
    context.progress(`features of ${model.name}`, place + 1, models.length);
  }
  const [first] = results;
  return {
    task: 'fake',
    dataset: 'colours',
    train: { path: 'train', pictures: 3 },
    test: { path: 'test', pictures: 40 },
    settings: { epochs: 2 },
    models: models.map(({ name, floor }, i) => ({ model: name, floor, metrics: [results[i].metric] })),
    margins: results
      .slice(1)
      .map(({ metric, values }, i) =>
        pairedMargin(models[0].name, models[i + 1].name, first.metric, metric, first.values, values),
      ),
    figures: [{ kind: 'bars', title: 'classes', unit: '%', bars: [{ label: 'red', value: 50 }] }],
    notes: ['one picture was left out'],
    seconds: 1,
  };
}

test('runEvaluation: table, margins, notes, files, and no cache left behind', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const out = join(folder, 'out');
    const contexts: EvaluationContext[] = [];
    const { stdout, stderr } = await outputOf(() =>
      runEvaluation({ model: run, out, draws: '50', seed: 3 }, (context) => {
        contexts.push(context);
        return fakeTask(context);
      }),
    );
    const [{ crop, resize, batch, seed, bootstrapDraws, cacheFolder }] = contexts;
    t.deepEqual([crop, resize, batch], [32, 36, 16], 'sizes of the configuration');
    t.deepEqual([seed, bootstrapDraws], [3, 50], 'seed and draws');
    const lines = stdout.split('\n');
    t.ok(/^fake on colours +top1, %$/.test(lines[0]), lines[0]);
    t.ok(/^teacher of .*run +100\.0 \[100\.0, 100\.0\]$/.test(lines[1]), lines[1]);
    t.ok(/^random weights +75\.0 \[\d\d\.\d, \d\d\.\d\]$/.test(lines[2]), lines[2]);
    t.ok(/^raw pixels/.test(lines[3]) && /^colour histogram/.test(lines[4]), 'floors');
    t.ok(/^teacher of .*run is ahead of random weights by 25\.0 points \[.*\] in top1$/m.test(stdout), 'margins');
    t.ok(/^note: one picture was left out$/m.test(stdout), 'notes');
    t.ok(/64 x 2, 1 heads, patch 8\), 32 px of 36 in f32/.test(stderr) && /a note on the way/.test(stderr), 'stderr');
    t.ok(/features of colour histogram {2}4\/4/.test(stderr), 'progress');
    t.notOk(existsSync(cacheFolder), 'the cache is removed');

    const results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
    t.equal(results.models.length, 4);
    t.deepEqual([results.settings.epochs, results.settings.seed, results.settings.crop], [2, 3, 32]);
    t.notOk('figures' in results, 'figures are for the page');
    const csv = readFileSync(join(out, 'results.csv'), 'utf8').trimEnd().split('\n');
    t.equal(csv[0], 'task,dataset,model,floor,top1,top1 low,top1 high');
    t.ok(csv[2].startsWith('fake,colours,random weights,true,75,'), csv[2]);
    t.ok(/<h1>/.test(readFileSync(join(out, 'report.html'), 'utf8')), 'a page');
  });
});

test('runEvaluation: a second model at its own size, without floors, as JSON', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const other = { ...TINY_VIT, patchSize: 14, imageSize: 56 };
    writeFolder(folder, [['other.safetensors', tinyFile(other)]]);
    const compare = join(folder, 'other.safetensors');
    const common = { model: run, compare, floors: false, json: true, draws: 20 };
    const contexts: EvaluationContext[] = [];
    const { stdout, stderr } = await outputOf(() =>
      runEvaluation({ ...common, size: 32, resize: 40 }, (context) => {
        contexts.push(context);
        return fakeTask(context, 0);
      }),
    );
    const names = contexts[0].models.map(({ name }) => name);
    t.deepEqual([contexts[0].crop, contexts[0].resize], [32, 40], 'as asked');
    t.deepEqual(names, [`teacher of ${run}`, compare], 'names');
    t.ok(/other\.safetensors \(.*patch 14\), 28 px of 35/.test(stderr), 'the nearest size for the other patch');
    const report = JSON.parse(stdout);
    t.deepEqual(
      report.settings.networks.map(({ name }: { name: string }) => name),
      names,
    );
    t.equal(report.margins[0].difference, 0);
  });
});

test('runEvaluation: what goes wrong is said in one line, and the cache goes too', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const refused = async (
      args: Partial<EvaluationArguments>,
      kind: typeof UsageError | typeof DataError,
      pattern: RegExp,
    ): Promise<void> => {
      try {
        await outputOf(() => runEvaluation({ model: run, ...args }, (context) => fakeTask(context)));
        t.fail(`${JSON.stringify(args)} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({ model: '' }, UsageError, /--model is missing/);
    await refused({ draws: '0' }, UsageError, /--draws takes a whole number from 1/);
    await refused({ seed: '-1' }, UsageError, /--seed takes a whole number from 0/);
    await refused({ compare: run }, UsageError, /--compare: teacher of .* is given twice/);
    await refused({ compare: join(folder, 'nowhere') }, DataError, /nowhere/);
    let cache = '';
    const failing = (context: EvaluationContext): Promise<EvaluationReport> => {
      cache = context.cacheFolder;
      throw new DataError('bad pictures');
    };
    try {
      await outputOf(() => runEvaluation({ model: run, floors: false }, failing));
      t.fail('it went through');
    } catch (error) {
      t.equal((error as Error).message, 'bad pictures');
    }
    t.ok(cache !== '' && !existsSync(cache), 'the cache is removed');
  });
});
