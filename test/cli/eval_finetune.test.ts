import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { type EvalFineTuneArguments, evalFineTune } from '../../src/cli/eval_finetune.js';
import { UsageError } from '../../src/errors.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import { loadModel } from '../../src/eval/model_file.js';
import { readSafetensors } from '../../src/io/safetensors.js';
import { withFolder } from '../data/archives.js';
import { TINY_VIT } from '../eval/tiny_model.js';
import { testGpu } from '../fixture.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

test('webdino eval finetune: report, saved classifier, refusals', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const sources = { train: join(folder, 'train'), test: join(folder, 'test') };
    await writePictures(sources.train, ['blue', 'green', 'red'], 3);
    await writePictures(sources.test, ['green', 'red'], 2);
    const save = join(folder, 'classifier.safetensors');
    const quick = { model: run, ...sources, iterations: 25, trainBatch: 6, draws: 50, json: true, lr: 0.02 };

    const { stdout } = await outputOf(() => evalFineTune({ ...quick, save }));
    const report = JSON.parse(stdout) as EvaluationReport;
    t.equal(report.task, 'finetune');
    t.deepEqual(
      report.models.map(({ floor }) => floor),
      [false, true],
      'the model, and random weights',
    );
    t.ok(report.models[0].metrics[0].value >= 75, `top1 ${report.models[0].metrics[0].value}`);
    t.ok('training top1 %' in report.models[0].chosen!, 'how well it knows what it learned from');
    t.ok(
      report.notes.some((note) => /raw pixels and colour histogram cannot be fine-tuned and are left out/.test(note)),
      'floors without a network',
    );
    const { settings } = report;
    t.deepEqual(
      [settings.iterations, settings.trainBatch, settings.layerwiseDecay, settings.labelSmoothing],
      [25, 6, 0.65, 0.1],
    );

    const file = readSafetensors(readFileSync(save));
    t.deepEqual(file.tensors.get('head.weight')!.shape, [3, 2 * TINY_VIT.embedDim], 'the head');
    t.deepEqual(JSON.parse(file.metadata.classes), ['blue', 'green', 'red'], 'the names of its classes');
    const loaded = await loadModel(await testGpu(), save, { numHeads: 1 });
    t.equal(loaded.vit.depth, TINY_VIT.depth, 'it opens as a backbone like any other');
    loaded.weights.dispose();

    const refused = async (more: Partial<EvalFineTuneArguments>, pattern: RegExp): Promise<void> => {
      try {
        await outputOf(() => evalFineTune({ ...quick, ...more }));
        t.fail(`${JSON.stringify(more)} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof UsageError && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({ lr: 'fast' }, /--lr takes a number, not "fast"/);
    await refused({ layerDecay: '1.5' }, /--layer-decay 1.5: give a number above 0, at most 1/);
    await refused({ labelSmoothing: 1 }, /--label-smoothing 1: give a number from 0, below 1/);
    await refused({ dropPath: -0.1 }, /--drop-path -0.1/);
    await refused({ dtype: 'f64' }, /--dtype f64 is unknown/);
  });
});
