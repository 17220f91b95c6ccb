/** The plain step computes what the engine's does: the same losses, gradient norms and weights, in another order. */

import test, { type Test } from 'tape';
import { PlainTrainer } from '../../bench/plain/trainer.js';
import { pixelBytes } from '../../bench/step_case.js';
import { dryStep, STEP_DEFAULTS } from '../../bench/step_suite.js';
import { CounterRandom } from '../../src/data/random.js';
import { clearStore, initializeStore } from '../../src/dinov2/initialize.js';
import { collateMasks } from '../../src/dinov2/masking.js';
import { type SslConfig, SslTrainer, type StepInput, type StepLog } from '../../src/dinov2/ssl.js';
import { UsageError } from '../../src/errors.js';
import { Gpu } from '../../src/gpu/device.js';
import { ranksOfPermutations } from '../../src/tensor/row_subsets.js';
import { maskSettings, sslConfig } from '../../src/train/ssl_config.js';
import { allClose, noise, plannedAsHardware, testGpu } from '../fixture.js';
import { tinyConfig } from '../train/tiny_run.js';

const STEPS = 2;
const base = tinyConfig();

/** The same for both trainers; with given permutations also those. */
function stepInput(config: SslConfig, step: number): StepInput {
  const { batch, localCrops, globalSize, localSize, vit, permutations } = config;
  const shuffled = (count: number, seed: number): number[] => {
    const keys = noise(count, seed);
    return Array.from({ length: count }, (_, i) => i).sort((a, b) => keys[a] - keys[b]);
  };
  const sizes = [2 * batch, localCrops * batch];
  const branches = Array.from({ length: 2 * vit.depth }, (_, b) =>
    sizes.map((n, g) => shuffled(n, 100 * step + 2 * b + g)),
  );
  return {
    globalCrops: pixelBytes(2 * batch, globalSize),
    localCrops: pixelBytes(localCrops * batch, localSize),
    masks: collateMasks(maskSettings(base), new CounterRandom(7 + step)),
    learningRate: 1e-3,
    lastLayerLearningRate: 1e-3,
    weightDecay: 0.04,
    teacherMomentum: 0.9,
    teacherTemperature: 0.07,
    clipGrad: 3,
    step,
    seed: 7,
    ranks: permutations === 'given' ? ranksOfPermutations(branches) : undefined,
  };
}

interface Outcome {
  readonly logs: StepLog[];
  readonly student: Float32Array;
  readonly teacher: Float32Array;
}

async function outcomeOf(gpu: Gpu, trainer: SslTrainer, config: SslConfig): Promise<Outcome> {
  const joined = (weights: ReadonlyMap<string, Float32Array>): Float32Array =>
    Float32Array.from([...weights.values()].flatMap((values) => [...values]));
  try {
    await trainer.compile({ guard: true });
    await initializeStore(gpu, trainer.student, { seed: 3, layerScale: 1 });
    await initializeStore(gpu, trainer.teacher, { seed: 4, layerScale: 1 });
    for (const store of [trainer.firstMoment, trainer.secondMoment, trainer.centers]) await clearStore(gpu, store);
    const logs: StepLog[] = [];
    for (let step = 0; step < STEPS; step++) {
      trainer.run(stepInput(config, step));
      logs.push(await trainer.log());
    }
    const [student, teacher] = [await trainer.student.readAll(), await trainer.teacher.readAll()];
    return { logs, student: joined(student), teacher: joined(teacher) };
  } finally {
    trainer.dispose();
  }
}

async function agree(t: Test, what: string, gpu: Gpu, changes: Partial<SslConfig>): Promise<void> {
  const config: SslConfig = { ...sslConfig(base), ...changes };
  const ours = await outcomeOf(gpu, new SslTrainer(gpu, config), config);
  const plain = await outcomeOf(gpu, new PlainTrainer(gpu, config), config);
  const numbers = ({ logs }: Outcome): number[] =>
    logs.flatMap(({ gradientNorms, skipped, lossScale, ...losses }) => [
      ...Object.values(losses),
      ...Object.values(gradientNorms),
    ]);
  const expected = numbers(ours);
  const worst = numbers(plain).reduce(
    (most, v, i) => Math.max(most, Math.abs(v - expected[i]) / Math.abs(expected[i])),
    0,
  );
  t.ok(
    worst <= 1e-4,
    `${what}: losses and gradient norms of ${STEPS} steps (relative error ${worst.toExponential(1)})`,
  );
  t.notOk(
    plain.logs.some(({ skipped }) => skipped),
    `${what}: no step is skipped`,
  );
  // Adam divides by the gradient's own size, so that the rounding of a tiny one moves its weight by a part of the rate.
  allClose(t, plain.student, ours.student, `${what}: weights`, { absolute: 2e-5, relative: 0 });
  allClose(t, plain.teacher, ours.teacher, `${what}: the teacher's`, { absolute: 2e-5, relative: 0 });
}

test('the plain step agrees with the engine’s', async (t) => {
  await agree(t, 'no drop path', await testGpu(), { dropPathRate: 0 });
});

test('also with dropped sequences, which it masks, and as hardware plans it', async (t) => {
  const { vit, dinoHead } = sslConfig(base);
  await agree(t, 'drop path, separate heads, registers, SwiGLU', plannedAsHardware(await testGpu()), {
    permutations: 'given',
    centering: 'centering',
    ibotHead: { ...dinoHead, prototypes: 64 },
    vit: { ...vit, registers: 2, feedForward: 'swiglu' },
  });
});

test('the plain step keeps more, and a dry GPU counts it', async (t) => {
  const gpu = await testGpu();
  const config = sslConfig(base);
  const peak = async (Trainer: typeof SslTrainer): Promise<number> => {
    const dry = Gpu.dry(gpu.capabilities, gpu.shaders);
    const trainer = new Trainer(dry, config);
    await trainer.compile();
    return dry.peakBytes;
  };
  const [plain, ours] = [await peak(PlainTrainer), await peak(SslTrainer)];
  t.ok(plain > ours, `${plain} bytes against ${ours}`);
});

test('bench step counts the plain step beyond the adapter’s limits, and refuses it in halves', async (t) => {
  const gpu = await testGpu();
  const settings = { ...STEP_DEFAULTS.full, batch: 8, plain: true };
  const step = await dryStep(gpu, settings);
  if (!('dryRun' in step)) return t.fail(JSON.stringify(step));
  const { liftedBindingBytes, peakBytes } = step;
  const { maxBindingSizeBytes } = gpu.capabilities;
  t.equal(liftedBindingBytes !== undefined, maxBindingSizeBytes < 2 ** 31, `lifted to ${liftedBindingBytes} bytes`);
  t.ok(peakBytes > 2 ** 31, `${peakBytes} bytes at the peak`);
  const refused = await dryStep(gpu, { ...settings, dtype: 'f16' }).catch((error: unknown) => error);
  t.ok(refused instanceof UsageError, String(refused));
});

test('the plain step refuses what it does not have', async (t) => {
  const gpu = await testGpu();
  for (const changes of [{ dtype: 'f16' }, { activationCheckpointing: true }, { accumulate: 2 }] as const) {
    t.throws(() => new PlainTrainer(gpu, { ...sslConfig(base), ...changes }), UsageError, JSON.stringify(changes));
  }
});
