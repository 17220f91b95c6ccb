/** The whole step, in the ways it can be configured: they must not change what is computed. */

import test, { type Test } from 'tape';
import { clearStore, initializeStore } from '../../src/dinov2/initialize.js';
import { collateMasks } from '../../src/dinov2/masking.js';
import { type SslConfig, SslTrainer, type StepInput, type StepLog } from '../../src/dinov2/ssl.js';
import { CounterRandom, RandomPurpose } from '../../src/data/random.js';
import { Gpu } from '../../src/gpu/device.js';
import { maskSettings, sslConfig } from '../../src/train/ssl_config.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { tinyConfig } from '../train/tiny_run.js';

const config = tinyConfig('train={centering: centering}');

/** Bytes of crops that look like something: a slow pattern and noise on it. */
function crops(count: number, side: number, seed: number): Uint8Array {
  const grain = noise(count * side * side * 3, seed);
  return Uint8Array.from(grain, (value, i) => 128 + 60 * Math.sin(i / (7 + (seed % 5))) + 60 * value);
}

function stepInput(ssl: SslConfig, step: number, draw = step): StepInput {
  const settings = maskSettings(config);
  return {
    globalCrops: crops(2 * ssl.batch, ssl.globalSize, 2 * draw),
    localCrops: crops(ssl.localCrops * ssl.batch, ssl.localSize, 2 * draw + 1),
    masks: collateMasks(settings, new CounterRandom(7, RandomPurpose.masks, draw)),
    learningRate: 1e-3,
    lastLayerLearningRate: 1e-3,
    weightDecay: 0.04,
    teacherMomentum: 0.99,
    teacherTemperature: 0.07,
    clipGrad: 3,
    step,
    seed: 7,
  };
}

async function openTrainer(gpu: Gpu, ssl: SslConfig): Promise<SslTrainer> {
  const trainer = new SslTrainer(gpu, ssl);
  await trainer.compile();
  await initializeStore(gpu, trainer.student, { seed: 3, layerScale: 1 });
  await trainer.teacher.copyFrom(trainer.student);
  for (const store of [trainer.firstMoment, trainer.secondMoment, trainer.centers]) await clearStore(gpu, store);
  return trainer;
}

interface Outcome {
  readonly logs: StepLog[];
  /** All weights of the student, one after another. */
  readonly weights: Float32Array;
}

async function runSteps(
  changes: Partial<SslConfig>,
  steps: number,
  micro?: (step: number) => StepInput[],
): Promise<Outcome> {
  const gpu = await testGpu();
  const ssl = { ...sslConfig(config), ...changes };
  const trainer = await openTrainer(gpu, ssl);
  try {
    const logs: StepLog[] = [];
    for (let step = 0; step < steps; step++) {
      for (const [i, input] of (micro?.(step) ?? [stepInput(ssl, step)]).entries()) trainer.run(input, i);
      logs.push(await trainer.log());
    }
    // Of the key bias the gradient is rounding noise (softmax ignores a constant), which Adam turns into full steps.
    const names = trainer.student.names.filter((name) => !name.endsWith('qkv.bias'));
    const values = [...(await trainer.student.readAll(names)).values()];
    const weights = new Float32Array(values.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const value of values) {
      weights.set(value, at);
      at += value.length;
    }
    return { logs, weights };
  } finally {
    trainer.dispose();
  }
}

test('activation checkpointing changes memory and no bits', async (t) => {
  for (const dtype of ['f32', 'f16'] as const) {
    const plain = await runSteps({ dtype }, 3);
    const checkpointed = await runSteps({ dtype, activationCheckpointing: true }, 3);
    sameBits(t, checkpointed.weights, plain.weights, `${dtype}: weights after three steps`);
  }
});

test('a step in two equal micro-batches is the step of one', async (t) => {
  // Without stochastic depth, whose draws differ from one micro-batch to the next, and without a centre, which moves with each.
  const changes = { dropPathRate: 0, centering: 'sinkhorn_knopp' } as const;
  const whole = await runSteps(changes, 2);
  const ssl = sslConfig(config);
  const halves = await runSteps({ ...changes, accumulate: 2 }, 2, (step) => {
    const input = stepInput(ssl, step);
    return [input, input];
  });
  allClose(t, halves.weights, whole.weights, 'weights after two steps', { absolute: 2e-5 });
  compareLogs(t, halves.logs, whole.logs, 1e-4);
});

function compareLogs(t: Test, ours: readonly StepLog[], theirs: readonly StepLog[], relative: number): void {
  let worst = 0;
  ours.forEach((log, i) => {
    worst = Math.max(worst, Math.abs(log.totalLoss - theirs[i].totalLoss) / Math.abs(theirs[i].totalLoss));
  });
  t.ok(worst <= relative, `${ours.length} losses agree within ${100 * relative} % (${(100 * worst).toFixed(3)} %)`);
}

test('thirty steps in half precision follow those in float32', async (t) => {
  const single = await runSteps({}, 30);
  // The gradients of so small a network are large (norms of 100); the official initial scale would skip some steps first.
  const half = await runSteps({ dtype: 'f16', initialLossScale: 1024 }, 30);
  compareLogs(t, half.logs, single.logs, 0.02);
  t.ok(
    half.logs.every((log) => !log.skipped),
    'no step overflows',
  );
  const again = await runSteps({ dtype: 'f16', initialLossScale: 1024 }, 30);
  sameBits(t, again.weights, half.weights, 'and twice the same bits');
});

test('an overflow skips the step and halves the scale until the gradients fit', async (t) => {
  const initialLossScale = 2 ** 34;
  const { logs } = await runSteps({ dtype: 'f16', initialLossScale }, 30);
  t.ok(logs[0].skipped, 'the first step overflows');
  const scales = logs.map((log) => log.lossScale!);
  t.ok(
    scales.every((scale, i) => scale === (i === 0 ? initialLossScale : scales[i - 1]) / (logs[i].skipped ? 2 : 1)),
    `halved by every skipped step: ${scales[0]} to ${scales.at(-1)}`,
  );
  t.notOk(logs.at(-1)!.skipped, 'until one fits');
});

test('a dry run tells the memory of a real one', async (t) => {
  const gpu = await testGpu();
  for (const changes of [{}, { dtype: 'f16' }, { activationCheckpointing: true }, { accumulate: 2 }] as const) {
    const ssl = { ...sslConfig(config), ...changes };
    const dry = Gpu.dry(gpu.capabilities, gpu.shaders);
    await new SslTrainer(dry, ssl).compile();
    const before = gpu.memory.bytes;
    const trainer = new SslTrainer(gpu, ssl);
    await trainer.compile();
    const real = gpu.memory.bytes - before;
    t.ok(
      Math.abs(dry.peakBytes - real) <= 0.05 * real,
      `${JSON.stringify(changes)}: ${dry.peakBytes} bytes said, ${real} taken`,
    );
    trainer.dispose();
  }
});
