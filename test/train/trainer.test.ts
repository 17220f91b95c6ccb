import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { DataError, UsageError, WebdinoError } from '../../src/errors.js';
import { encodeSafetensors, readSafetensors } from '../../src/io/safetensors.js';
import { loadConfig } from '../../src/train/config.js';
import { METRICS, readMetrics } from '../../src/train/metrics.js';
import { Progress } from '../../src/io/progress.js';
import { checkTrainingFits, planTraining } from '../../src/train/plan.js';
import { train } from '../../src/train/trainer.js';
import { testGpu } from '../fixture.js';
import { inTemporaryFolder, tinyConfig, tinySource } from './tiny_run.js';

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
    return new Error('no error');
  } catch (error) {
    return error as Error;
  }
}

test('a run leaves checkpoints, metrics, its configuration and a report', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const out = join(folder, 'run');
    const config = tinyConfig(`train.output_dir=${out}`, 'evaluation.eval_period_iterations=4');
    const written: string[] = [];
    const progress = new Progress({ totalSteps: 6, stream: { write: (text) => written.push(text) } });
    const steps: number[] = [];
    const tracePath = join(folder, 'trace.json');
    const onStep = (step: number): void => void steps.push(step);
    const source = tinySource(12, [3, 7]);
    const memory = gpu.memory.bytes;
    const result = await train({ gpu, config, source, out, progress, tracePath, onStep });

    t.deepEqual(steps, [0, 1, 2, 3, 4, 5], 'every step is told once, in order');
    t.deepEqual(
      readdirSync(out).sort(),
      ['checkpoints', 'config.yaml', 'eval', 'metrics.jsonl', 'report.html'],
      'nothing else, and nothing half-written, lies in the folder',
    );
    t.deepEqual(
      readdirSync(join(out, 'checkpoints')).sort(),
      ['last.json', 'step_0000002', 'step_0000004', 'step_0000006'],
      'periodic checkpoints and a last one',
    );
    const exported = readSafetensors(readFileSync(join(out, 'eval/training_4/teacher_checkpoint.safetensors')));
    t.ok(
      exported.tensors.has('backbone.cls_token') && ![...exported.tensors.keys()].some((name) => name.includes('head')),
    );
    t.deepEqual(loadConfig({ file: join(out, 'config.yaml') }), config, 'config.yaml runs as it is');

    const metrics = readMetrics(join(out, 'metrics.jsonl'));
    const logged = metrics.filter(({ total_loss: loss }) => loss !== undefined);
    t.deepEqual(
      logged.map(({ step }) => step),
      [0, 2, 4, 5],
      'a line every log_period steps, and the last',
    );
    const expected = [
      'total_loss',
      'ibot_loss',
      'koleo_loss',
      'lr',
      'last_layer_lr',
      'momentum',
      'teacher_entropy',
      'feature_std',
    ];
    const known = new Set<string>([...Object.keys(METRICS), 'step', 'elapsed_s']);
    t.ok(
      logged.every((record) => expected.every((name) => Number.isFinite(record[name]))),
      'with numbers',
    );
    t.deepEqual(
      Object.keys(logged[2]).filter((name) => !known.has(name)),
      [],
      'under documented names',
    );
    t.equal(logged[0].last_layer_lr, 0, 'the last layer is frozen at first');
    t.ok(Number(logged[2].step_ms) > 0 && Number(logged[2].images_per_second) > 0, 'with speeds');
    const { last } = result;
    t.equal(logged.at(-1)!.total_loss, last!.totalLoss);
    const parts = last!.dinoLocalLoss + last!.dinoGlobalLoss + last!.koleoLoss + last!.ibotLoss;
    t.ok(Math.abs(parts - last!.totalLoss) < 1e-6, 'the total is the sum of its parts');

    const skipped = metrics.flatMap(({ skipped_picture: name, reason }) => (name ? [`${name} ${reason}`] : []));
    t.deepEqual(skipped.sort(), ['b/3.png is truncated', 'b/7.png is truncated'], 'corrupt pictures are named');
    t.equal(result.badPictures, 2, 'and counted');
    t.ok(
      written.some((line) => line.includes('Skipped a picture: b/3.png is truncated')),
      'and shown',
    );
    const report = readFileSync(result.reportPath, 'utf8');
    for (const part of ['Losses', 'First augmented batch', 'Patch features', 'b/7.png', 'head_n_prototypes']) {
      t.ok(report.includes(part), `the report has: ${part}`);
    }
    const trace = JSON.parse(readFileSync(tracePath, 'utf8'));
    t.ok(trace.dispatches > 100 && trace.flops > 1e6 && trace.kernels.length > 10, 'the trace counts');
    t.equal(
      trace.kernels.every(({ timeMs }: { timeMs: number | null }) =>
        trace.timestamps ? timeMs! >= 0 : timeMs === null,
      ),
      true,
    );
    t.equal(gpu.memory.bytes, memory, 'all GPU memory is given back');

    const untraced = join(folder, 'untraced');
    await train({
      gpu,
      config: { ...config, train: { ...config.train, output_dir: untraced } },
      source: tinySource(12, [3, 7]),
      out: untraced,
    });
    const bytes = (run: string): Buffer => readFileSync(join(run, 'checkpoints/step_0000006/student.safetensors'));
    t.ok(bytes(out).equals(bytes(untraced)), 'a trace leaves no trace in the run');

    const refused = await failure(train({ gpu, config, source: tinySource(), out }));
    t.ok(
      refused instanceof UsageError && /holds a run already: go on with webdino resume/.test(refused.message),
      refused.message,
    );
    const shorter = tinyConfig(`train.output_dir=${out}`, 'train.steps=3', 'optim.warmup_epochs=0');
    await train({ gpu, config: shorter, source: tinySource(), out, overwrite: true });
    t.deepEqual(
      readdirSync(join(out, 'checkpoints')).sort(),
      ['last.json', 'step_0000002', 'step_0000003'],
      'unless told to replace it',
    );
    t.notOk(existsSync(join(out, 'eval')), 'whole');
  });
});

test('losses that are no numbers stop the run with step, term, a dump and the way to it', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const healthy = join(folder, 'healthy');
    const config = tinyConfig('train.steps=2', 'optim.warmup_epochs=0');
    const { checkpoint } = await train({ gpu, config, source: tinySource(), out: healthy });
    // A backbone whose norm has huge weights: its features overflow.
    const file = readSafetensors(readFileSync(join(checkpoint, 'student.safetensors')));
    const path = join(folder, 'huge.safetensors');
    writeFileSync(
      path,
      encodeSafetensors(
        [...file.tensors].map(([name, { shape }]) => {
          const data = file.float32(name).map((value) => (name === 'backbone.norm.weight' ? 3e38 * value : value));
          return [name, { dtype: 'F32', shape, data }] as const;
        }),
      ),
    );
    const out = join(folder, 'run');
    const error = await failure(
      train({ gpu, config: tinyConfig(`student.pretrained_weights=${path}`), source: tinySource(), out }),
    );
    t.ok(error instanceof WebdinoError && error.exitCode === 1, error.message);
    t.match(error.message, /^Training stopped at step 0: /);
    const dump = join(out, 'dumps/step_0000000');
    t.ok(error.message.includes(dump) && error.message.includes('webdino train --config'), 'the line to replay it');
    const inputs = readSafetensors(readFileSync(join(dump, 'inputs.safetensors')));
    t.deepEqual(inputs.tensors.get('global_crops')!.shape, [8, 32, 32, 3]);
    t.deepEqual(inputs.tensors.get('local_crops')!.shape, [8, 16, 16, 3]);
    t.deepEqual(inputs.tensors.get('masks')!.shape, [8, 16]);
    const state = JSON.parse(readFileSync(join(dump, 'state.json'), 'utf8'));
    t.deepEqual([state.step, state.seed, state.checkpoint], [0, 5, null]);
    t.notOk(existsSync(join(out, 'checkpoints')), 'a broken state is no checkpoint');
    t.equal(readMetrics(join(out, 'metrics.jsonl')).length, 1, 'the step is in the metrics');
  });
});

test('what cannot be trained is refused before anything is written', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const out = join(folder, 'run');
    const attempt = (changes: string[], source = tinySource()) =>
      failure(train({ gpu, config: tinyConfig(...changes), source, out }));
    t.ok((await attempt(['crops.local_crops_number=0'])) instanceof UsageError);
    t.ok((await attempt(['student.pretrained_weights=/nowhere'])) instanceof DataError);
    t.notOk(existsSync(out));
    const corrupt = await attempt([], tinySource(3, [0, 1, 2]));
    t.ok(
      corrupt instanceof DataError && /all 3 pictures in generated are corrupt/.test(corrupt.message),
      corrupt.message,
    );
  });
});

test('a plan counts what a run would take, and runs nothing', async (t) => {
  const gpu = await testGpu();
  const memory = gpu.memory.bytes;
  const plan = await planTraining(gpu, tinyConfig());
  // 32 wide: embeddings 32 + 17·32 + 32 + 32·192 + 32, two blocks of 8,608, a norm of 64; head 32→32→16→48.
  const block = 64 + 96 * 33 + 32 * 33 + 32 + 64 + 64 * 33 + 32 * 65 + 32;
  const backbone = 32 + 17 * 32 + 32 + 32 * 193 + 2 * block + 64;
  t.equal(plan.backboneParameters, backbone);
  t.equal(plan.parameters, backbone + 32 * 33 + 16 * 33 + 48 * 17);
  t.deepEqual([plan.steps, plan.batch], [6, 4]);
  t.ok(plan.peakBytes > 4 * 5 * plan.parameters && plan.dispatches > 100 && plan.flops > 0);
  t.equal(gpu.memory.bytes, memory, 'and takes no memory');
  t.deepEqual(await checkTrainingFits(gpu, tinyConfig(), plan.peakBytes), plan, 'it fits exactly');
  const refusal = await checkTrainingFits(gpu, tinyConfig(), plan.peakBytes / 2).catch((error: Error) => error.message);
  t.match(String(refusal), /needs .* more than .*train\.dtype=f16/, 'half of that is refused with a way out');
});
