/** Distillation: one step against PyTorch, and what must not change it. */

import { readFileSync } from 'node:fs';
import test, { type Test } from 'tape';
import { DistillTrainer, FrozenTeacher } from '../../src/dinov2/distill.js';
import { clearStore } from '../../src/dinov2/initialize.js';
import { collateFromMasks, everyPatch } from '../../src/dinov2/masking.js';
import type { NetworkConfig } from '../../src/dinov2/network.js';
import type { SslConfig, StepInput, StepLog } from '../../src/dinov2/ssl.js';
import type { VitConfig } from '../../src/dinov2/vit.js';
import { GpuError } from '../../src/errors.js';
import { goldenImage, goldenParameter, hashUniform } from '../../src/io/golden_hash.js';
import type { ParameterStore } from '../../src/tensor/parameters.js';
import { allClose, sameBits, testGpu } from '../fixture.js';

interface Sizes {
  D: number;
  depth: number;
  heads: number;
  ratio: number;
  registers: number;
}

interface Fixture {
  seed: number;
  batch: number;
  locals: number;
  patch: number;
  global: number;
  local: number;
  head: { prototypes: number; bottleneck: number; hidden: number; layers: number };
  teacher: Sizes;
  student: Sizes;
  teacherTemperature: number;
  studentTemperature: number;
  learningRate: number;
  lastLayerLearningRate: number;
  weightDecay: number;
  betas: [number, number];
  epsilon: number;
  layerDecay: number;
  patchEmbedLr: number;
  clip: number;
  momentum: number;
  koleo: number;
  centerMomentum: number;
  cases: {
    centering: SslConfig['centering'];
    separateHead: boolean;
    losses: Record<'dinoLocalLoss' | 'dinoGlobalLoss' | 'ibotLoss' | 'koleoLoss' | 'teacherEntropy', number>;
    norms: Record<string, number>;
    gradients: Record<string, number[]>;
    weights: Record<string, Record<'student' | 'average', number[]>>;
    centers: Record<string, number[]>;
  }[];
}

const path = new URL('../fixtures/distill.json', import.meta.url);
const fixture = JSON.parse(readFileSync(path, 'utf8')) as Fixture;
const { batch, locals, global: globalSize, local: localSize, patch: patchSize, seed } = fixture;
const patches = (globalSize / patchSize) ** 2;

function networkOf(sizes: Sizes, separateHead: boolean): NetworkConfig {
  const vit: VitConfig = {
    imageSize: globalSize,
    patchSize,
    embedDim: sizes.D,
    depth: sizes.depth,
    numHeads: sizes.heads,
    mlpRatio: sizes.ratio,
    feedForward: 'mlp',
    qkvBias: true,
    projBias: true,
    ffnBias: true,
    layerScale: 1,
    registers: sizes.registers,
    interpolateOffset: 0.1,
    interpolateAntialias: false,
  };
  const head = { ...fixture.head, inputs: sizes.D };
  return { vit, dinoHead: head, ibotHead: separateHead ? head : undefined };
}

const shared = {
  batch,
  globalSize,
  centerMomentum: fixture.centerMomentum,
  pixels: 'floats',
} as const;

function studentConfig(separateHead: boolean): Omit<SslConfig, 'centering'> {
  return {
    ...networkOf(fixture.student, separateHead),
    ...shared,
    localCrops: locals,
    localSize,
    maskUpperbound: 2 * batch * patches,
    dropPathRate: 0,
    dropPathUniform: true,
    dinoWeight: 1,
    ibotWeight: 1,
    koleoWeight: fixture.koleo,
    studentTemperature: fixture.studentTemperature,
    layerwiseDecay: fixture.layerDecay,
    patchEmbedLrMult: fixture.patchEmbedLr,
    beta1: fixture.betas[0],
    beta2: fixture.betas[1],
    epsilon: fixture.epsilon,
    permutations: 'drawn',
  };
}

async function fill(store: ParameterStore, fillSeed: number): Promise<void> {
  const values = store.names.map((name) => [name, goldenParameter(name, store.get(name).shape, fillSeed)] as const);
  await store.writeAll(new Map(values));
}

function stepInput(step = 0): StepInput {
  const name = (crops: string): string => (step === 0 ? crops : `${crops}${step}`);
  return {
    globalCrops: goldenImage(name('global'), [2 * batch, 3, globalSize, globalSize], seed),
    localCrops: goldenImage(name('local'), [locals * batch, 3, localSize, localSize], seed),
    masks: everyPatch(2 * batch, patches),
    learningRate: fixture.learningRate,
    lastLayerLearningRate: fixture.lastLayerLearningRate,
    weightDecay: fixture.weightDecay,
    teacherMomentum: fixture.momentum,
    teacherTemperature: fixture.teacherTemperature,
    clipGrad: fixture.clip,
    step,
    seed: 0,
  };
}

interface Ways {
  readonly centering: SslConfig['centering'];
  readonly separateHead: boolean;
  /** Changes that teacher and students share. */
  readonly common?: Partial<Pick<SslConfig, 'dtype' | 'lossTileBytes'>>;
  /** One student each. */
  readonly students?: readonly Partial<SslConfig>[];
  readonly patchLoss?: boolean;
}

/** A frozen teacher and students with the fixture's weights. */
async function open({ centering, separateHead, common, students = [{}], patchLoss }: Ways) {
  const gpu = await testGpu();
  const network = networkOf(fixture.teacher, separateHead);
  const frozen = new FrozenTeacher(gpu, { ...shared, ...common, centering, network, patchLoss });
  const maskUpperbound = frozen.outputs.patches.rows;
  const base = { ...studentConfig(separateHead), ...common, centering, frozen, maskUpperbound };
  const trainers = students.map((changes) => new DistillTrainer(gpu, { ...base, ...changes }));
  await frozen.compile();
  await fill(frozen.weights, seed + 1);
  const centers = frozen.centers.names.map(
    (name) => [name, hashUniform(name, fixture.head.prototypes, seed).map((u) => 0.2 * u)] as const,
  );
  await frozen.centers.writeAll(new Map(centers));
  for (const trainer of trainers) {
    await trainer.compile();
    await fill(trainer.student, seed);
    await trainer.teacher.copyFrom(trainer.student);
    for (const store of [trainer.firstMoment, trainer.secondMoment]) await clearStore(gpu, store);
  }
  const dispose = (): void => {
    for (const trainer of trainers) trainer.dispose();
    frozen.dispose();
  };
  return { frozen, trainers, dispose };
}

function joined(values: Iterable<Float32Array>): Float32Array {
  return Float32Array.from([...values].flatMap((value) => [...value]));
}

/** The key bias has a gradient of zero in exact arithmetic (softmax ignores a constant), which Adam makes full steps of. */
const isNoise = (name: string): boolean => name.endsWith('attn.qkv.bias');

function sums(values: Float32Array): number[] {
  const total = values.reduce((a, b) => a + b, 0);
  return [...values.subarray(0, 6), total, values.reduce((a, b) => a + Math.abs(b), 0)];
}

for (const expected of fixture.cases) {
  const { centering, separateHead } = expected;
  test(`one step with ${centering}, ${separateHead ? 'two heads' : 'a shared head'}, is PyTorch's`, async (t) => {
    // Tiles of 20 rows: the patches of all crops are more than one.
    const ways = { centering, separateHead, common: { lossTileBytes: 4 * 20 * fixture.head.prototypes } };
    const { frozen, trainers, dispose } = await open(ways);
    const [trainer] = trainers;
    const before = joined((await frozen.weights.readAll()).values());
    frozen.run(stepInput());
    trainer.run(stepInput());
    const log = await trainer.log();
    for (const [name, value] of Object.entries(expected.losses)) {
      const ours = log[name as keyof typeof expected.losses];
      t.ok(Math.abs(ours - value) <= 1e-4, `${name}: ${ours} for ${value}`);
    }
    for (const [module, norm] of Object.entries(expected.norms)) {
      t.ok(Math.abs(log.gradientNorms[module] - norm) <= 1e-3 * norm, `gradient norm of ${module}`);
    }
    const gradients = await trainer.gradients.readAll();
    t.deepEqual([...gradients.keys()].sort(), Object.keys(expected.gradients).sort(), 'the same parameters');
    let worst = 0;
    for (const [name, values] of gradients) {
      const theirs = expected.gradients[name];
      const norm = Math.hypot(...theirs);
      const difference = Math.hypot(...theirs.map((value, i) => value - values[i]));
      worst = Math.max(worst, difference / Math.max(norm, 1e-6));
    }
    t.ok(worst <= 1e-3, `gradients of all parameters agree to 1e-3 (${worst.toExponential(1)})`);
    for (const [which, store] of [
      ['student', trainer.student],
      ['average', trainer.teacher],
    ] as const) {
      const ours = [...(await store.readAll())].filter(([name]) => !isNoise(name));
      allClose(
        t,
        ours.flatMap(([, values]) => sums(values)),
        ours.flatMap(([name]) => expected.weights[name][which]),
        `${which} after the step`,
        { absolute: 1e-4, relative: 1e-4 },
      );
    }
    const centers = await frozen.centers.readAll();
    for (const [name, values] of centers) allClose(t, values, expected.centers[name], name, { absolute: 1e-5 });

    sameBits(t, joined((await frozen.weights.readAll()).values()), before, 'the teacher is what it was, bit for bit');
    const { weights } = frozen;
    t.ok(
      weights.names.every((name) => !weights.get(name).requiresGrad && weights.get(name).gradient === undefined),
      'and no gradient of it exists',
    );
    dispose();
  });
}

const noPatches = collateFromMasks(new Uint8Array(2 * batch * patches), patches, 1);

async function runSteps(ways: Ways, steps = 3): Promise<{ logs: StepLog[][]; weights: Float32Array[] }> {
  const { frozen, trainers, dispose } = await open(ways);
  const micro = trainers[0].config.accumulate ?? 1;
  const logs: StepLog[][] = trainers.map(() => []);
  for (let step = 0; step < steps; step++) {
    for (let part = 0; part < micro; part++) {
      const input = stepInput(step);
      frozen.run(input);
      const masks = ways.patchLoss === false ? noPatches : input.masks;
      for (const trainer of trainers) trainer.run({ ...input, masks }, part);
    }
    for (const [i, trainer] of trainers.entries()) logs[i].push(await trainer.log());
  }
  const weights: Float32Array[] = [];
  for (const trainer of trainers) {
    for (const store of [trainer.student, trainer.teacher]) weights.push(joined((await store.readAll()).values()));
  }
  dispose();
  return { logs, weights };
}

function deeper(base: SslConfig['vit']): Partial<SslConfig> {
  return { vit: { ...base, depth: 3, registers: 1 } };
}

test('students that share a teacher are each what they are alone, twice', async (t) => {
  const plain = { centering: 'centering', separateHead: true } as const;
  const other = deeper(networkOf(fixture.student, true).vit);
  const both = await runSteps({ ...plain, students: [{}, other] });
  const again = await runSteps({ ...plain, students: [{}, other] });
  const first = await runSteps(plain);
  const second = await runSteps({ ...plain, students: [other] });
  const alone = [...first.weights, ...second.weights];
  both.weights.forEach((values, i) => {
    const which = `${i % 2 ? 'average' : 'weights'} of student ${1 + (i >> 1)} after three steps`;
    sameBits(t, values, again.weights[i], `${which}: the same bits twice`);
    sameBits(t, values, alone[i], `${which}: the same bits as alone`);
  });
});

for (const separateHead of [false, true]) {
  test(`a patch loss of weight 0, ${separateHead ? 'two heads' : 'a shared head'}, can be left out`, async (t) => {
    const ways = { centering: 'sinkhorn_knopp', separateHead, students: [{ ibotWeight: 0 }] } as const;
    const [weightless] = (await runSteps(ways)).logs;
    const [without] = (await runSteps({ ...ways, patchLoss: false })).logs;
    for (const [step, log] of without.entries()) {
      for (const term of ['dinoLocalLoss', 'dinoGlobalLoss', 'koleoLoss', 'featureDeviation'] as const) {
        const [ours, theirs] = [log[term], weightless[step][term]];
        t.ok(Math.abs(ours - theirs) <= 1e-4 * Math.abs(theirs), `step ${step}, ${term}: ${ours} for ${theirs}`);
      }
      t.equal(log.ibotLoss, 0, `step ${step}: nothing of patches`);
      t.ok(weightless[step].ibotLoss > 0, `step ${step}: where they are looked at, there is something to see`);
    }
  });
}

function worstLoss(ours: readonly StepLog[], theirs: readonly StepLog[]): number {
  return Math.max(...ours.map((log, i) => Math.abs(log.totalLoss - theirs[i].totalLoss) / theirs[i].totalLoss));
}

test('half precision, micro-batches and recomputation change the way and not the step', async (t) => {
  const ways: Ways = { centering: 'sinkhorn_knopp', separateHead: false };
  const single = await runSteps(ways);
  const checkpointed = await runSteps({ ...ways, students: [{ activationCheckpointing: true }] });
  sameBits(t, checkpointed.weights[0], single.weights[0], 'recomputed blocks: the same bits');
  const parts = await runSteps({ ...ways, students: [{ accumulate: 2 }] });
  t.ok(worstLoss(parts.logs[0], single.logs[0]) < 1e-4, 'two equal micro-batches are the step of one');
  const half = await runSteps({ ...ways, common: { dtype: 'f16' }, students: [{ initialLossScale: 1024 }] });
  const off = worstLoss(half.logs[0], single.logs[0]);
  t.ok(off < 0.02, `half precision: losses within 2 % (${(100 * off).toFixed(3)} %)`);
  t.notOk(
    half.logs[0].some(({ skipped }) => skipped),
    'and no step overflows',
  );
});

test('a student that does not fit the teacher is refused', async (t: Test) => {
  const ways: Ways = { centering: 'sinkhorn_knopp', separateHead: false };
  const attempt = async (changes: Partial<SslConfig>): Promise<string> => {
    try {
      (await open({ ...ways, students: [changes] })).dispose();
      return 'no error';
    } catch (error) {
      return error instanceof GpuError ? error.message : String(error);
    }
  };
  t.match(await attempt({ dropPathRate: 0.1 }), /one drop path rate for teacher and student: 0 is not 0.1/);
  t.match(await attempt({ batch: 4 }), /one batch/);
  const head = { ...fixture.head, inputs: fixture.student.D, prototypes: 32 };
  t.match(await attempt({ dinoHead: head }), /one DINO prototypes|DINO prototypes for/);
});
