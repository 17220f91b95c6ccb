import { readFileSync } from 'node:fs';
import test from 'tape';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { LOSS_SCALE, type LossScale, lossScaleState, readLossScale, scaledSeed } from '../../src/tensor/loss_scale.js';
import {
  type AdamWRates,
  adamWHyper,
  type GradientClip,
  HYPER_SHAPE,
  type OptimizerGroup,
  recordAccumulate,
  recordAdamW,
  recordClip,
  STEP_COEFFICIENTS,
} from '../../src/tensor/optimizer.js';
import { type ParameterSpec, ParameterStore } from '../../src/tensor/parameters.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/optimizer.js';

const SPECS = [
  { name: 'backbone.cls_token', shape: [1, 1, 50] },
  { name: 'backbone.qkv.weight', shape: [61, 257] },
  { name: 'dino_head.mlp.weight', shape: [64, 64] },
  { name: 'dino_head.mlp.bias', shape: [1] },
  { name: 'backbone.qkv.bias', shape: [261] },
  { name: 'dino_head.last_layer.weight_v', shape: [65, 63] },
];
const GROUPS: ReadonlyMap<string, OptimizerGroup> = new Map([
  ['backbone.cls_token', { lrMultiplier: 0.0718, wdMultiplier: 1, isLastLayer: false, module: 0 }],
  ['backbone.qkv.weight', { lrMultiplier: 0.9, wdMultiplier: 1, isLastLayer: false, module: 0 }],
  ['dino_head.mlp.weight', { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: false, module: 1 }],
  ['dino_head.mlp.bias', { lrMultiplier: 1, wdMultiplier: 0, isLastLayer: false, module: 1 }],
  ['backbone.qkv.bias', { lrMultiplier: 0.81, wdMultiplier: 0, isLastLayer: false, module: 0 }],
  ['dino_head.last_layer.weight_v', { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: true, module: 1 }],
]);
const modulesOf = (groups: ReadonlyMap<string, OptimizerGroup>): Map<string, number> =>
  new Map([...groups].map(([name, { module }]) => [name, module]));
const MODULES = modulesOf(GROUPS);

/** L2 norms of the two sub-modules, backbone and head. */
const normsOf = (gradients: ReadonlyMap<string, Float32Array>): number[] =>
  [0, 1].map((module) =>
    oracle.norm(...SPECS.filter(({ name }) => MODULES.get(name) === module).map(({ name }) => gradients.get(name)!)),
  );

const elementsOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b);

/** The same GPU with small buffers, so that the parameters fill two shards. */
const twoShards = (gpu: Gpu): Gpu =>
  Object.create(gpu, { capabilities: { value: { ...gpu.capabilities, maxBindingSizeBytes: 70_000 } } });

interface Trainer {
  readonly stores: Record<'student' | 'gradients' | 'firstMoment' | 'secondMoment' | 'teacher', ParameterStore>;
  readonly program: Program;
  readonly results: GradientClip;
  setLossScale(state: Partial<LossScale>): Promise<void>;
  lossScale(): Promise<LossScale>;
  dispose(): void;
}

interface TrainerOptions {
  readonly specs?: readonly ParameterSpec[];
  readonly groups?: ReadonlyMap<string, OptimizerGroup>;
  readonly teacher?: boolean;
  readonly halves?: boolean;
  readonly growthInterval?: number;
}

/** Clip and AdamW over all stores, with the values of a network in the middle of its training. */
async function trainer(options: TrainerOptions = {}): Promise<Trainer> {
  const { specs = SPECS, groups = GROUPS, teacher = true, halves = false, growthInterval = 0 } = options;
  const gpu = await testGpu();
  const student = new ParameterStore(twoShards(gpu), 'student', specs);
  const stores = {
    student,
    gradients: student.like('gradients'),
    firstMoment: student.like('first moment'),
    secondMoment: student.like('second moment'),
    teacher: student.like('teacher'),
  };
  if (halves) ParameterStore.pairHalf(student, stores.teacher);
  // Every second parameter is so small that its step is seen to the last digit.
  const values = (seed: number): Map<string, Float32Array> =>
    new Map(
      specs.map(({ name, shape }, i) => [name, noise(elementsOf(shape), seed + i).map((v) => (i % 2 ? v : 1e-6 * v))]),
    );
  await stores.student.writeAll(values(1));
  await stores.teacher.writeAll(values(11));
  const state = new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]);
  const program = new Program(gpu, 'optimizer');
  const graph = new Graph(program);
  const results = recordClip(graph, stores.gradients, {
    modules: modulesOf(groups),
    moduleCount: 2,
    hyper: program.input('hyper', HYPER_SHAPE),
    lossScale: state.get(LOSS_SCALE.name),
    growthInterval,
  });
  recordAdamW(graph, teacher ? stores : { ...stores, teacher: undefined }, groups, results.step);
  await program.compile({ guard: true });
  const setLossScale = (values: Partial<LossScale>): Promise<void> =>
    state.write(LOSS_SCALE.name, lossScaleState(values));
  await setLossScale({});
  return {
    stores,
    program,
    results,
    setLossScale,
    lossScale: async () => readLossScale((await state.readAll()).get(LOSS_SCALE.name)!),
    dispose: () => {
      program.dispose();
      for (const store of [...Object.values(stores), state]) store.dispose();
    },
  };
}

const AFTER = ['student', 'firstMoment', 'secondMoment', 'teacher'] as const;

/** Every value of every parameter in the stores that a step writes. */
async function allValues({ stores }: Trainer): Promise<Map<string, Float32Array>[]> {
  const all: Map<string, Float32Array>[] = [];
  for (const name of AFTER) all.push(await stores[name].readAll());
  return all;
}

const gradientsOf = (step: number, size: number): Map<string, Float32Array> =>
  new Map(
    SPECS.map(({ name, shape }, i) => [name, noise(elementsOf(shape), 100 * step + i).map((v) => v * size * (i + 1))]),
  );

const ratesOf = (step: number, maxNorm = 3): AdamWRates => ({
  learningRate: 0.002 / step,
  lastLayerLearningRate: step === 1 ? 0 : 0.001,
  weightDecay: 0.04 * step,
  teacherMomentum: step === 4 ? 1 - 1e-7 : 0.992,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  maxNorm,
});

test('AdamW on one number, by hand', (t) => {
  const state = { student: [2], firstMoment: [0], secondMoment: [0], teacher: [1] };
  const group = { lrMultiplier: 0.5, wdMultiplier: 1, isLastLayer: false, module: 0 };
  const rates = { ...ratesOf(1), learningRate: 0.2, weightDecay: 0.1, teacherMomentum: 0.75 };
  const next = oracle.adamW(state, [-3], 0.5, group, rates, 1);
  // The first step is the sign of the gradient times the rate: 2 (1 - 0.1 · 0.1) + 0.1.
  t.ok(Math.abs(next.student[0] - 2.08) < 1e-8, 'student');
  t.ok(Math.abs(next.teacher[0] - (0.75 + 0.25 * 2.08)) < 1e-8, 'teacher');
  t.end();
});

test('clip and AdamW against float64, several steps', async (t) => {
  const all = await trainer();
  const { stores, program, results, dispose } = all;
  t.equal(stores.student.shards.length, 2, 'the parameters fill two shards');
  for (const [step, size, maxNorm] of [
    [1, 1, 3],
    [2, 1e-3, 3],
    [3, 1e-12, 3],
    [4, 30, 0],
  ]) {
    const gradients = gradientsOf(step, size);
    const rates = ratesOf(step, maxNorm);
    await stores.gradients.writeAll(gradients);
    program.write('hyper', adamWHyper(rates));
    const before = await allValues(all);
    program.run();
    const [norms, stepValues, flags, parameterNorms] = await program.readAll([
      results.norms,
      results.step,
      results.flags,
      results.parameters.norms,
    ]);
    const expectedNorms = normsOf(gradients);
    const relative = { absolute: 0, relative: 1e-6 };
    allClose(t, norms, expectedNorms, `step ${step}: norms of the sub-modules`, relative);
    allClose(
      t,
      parameterNorms,
      SPECS.map(({ name }) => oracle.norm(gradients.get(name)!)),
      `step ${step}: norms of the parameters`,
      relative,
    );
    const expectedCoefficients = expectedNorms.map((norm) => oracle.clipCoefficient(norm, maxNorm));
    const coefficients = stepValues.subarray(STEP_COEFFICIENTS);
    allClose(t, coefficients, expectedCoefficients, `step ${step}: clip coefficients`, relative);
    t.deepEqual([...flags], [0, 0], `step ${step}: all finite`);

    const after = await allValues(all);
    for (const { name } of SPECS) {
      const [student, firstMoment, secondMoment, teacher] = before.map((values) => values.get(name)!);
      const group = GROUPS.get(name)!;
      const expected = oracle.adamW(
        { student, firstMoment, secondMoment, teacher },
        gradients.get(name)!,
        expectedCoefficients[group.module],
        group,
        rates,
        step,
      );
      const [newStudent, newFirst, newSecond, newTeacher] = after.map((values) => values.get(name)!);
      allClose(t, newStudent, expected.student, `step ${step}: ${name}`, relative);
      allClose(t, newFirst, expected.firstMoment, `step ${step}: first moment of ${name}`, relative);
      allClose(t, newSecond, expected.secondMoment, `step ${step}: second moment of ${name}`, {
        absolute: 1e-38,
        relative: 1e-6,
      });
      allClose(t, newTeacher, expected.teacher, `step ${step}: teacher's ${name}`, relative);
      if (step === 1 && group.isLastLayer) sameBits(t, newStudent, student, 'a last layer with rate 0 stays as it is');
    }
  }
  t.deepEqual(
    await all.lossScale(),
    { scale: 1, cleanSteps: 0, appliedSteps: 4, skippedSteps: 0 },
    'without growth the scale stays 1 and steps are counted',
  );
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  for (const [name, store] of Object.entries(stores)) {
    let padding = 0;
    for (const { tensor, segments } of store.shards) {
      const values = new Float32Array(await store.gpu.readBuffer(tensor.place().buffer, 0, tensor.sizeBytes));
      for (const { offsetElements, elements } of segments) values.fill(0, offsetElements, offsetElements + elements);
      padding += values.reduce((sum, v) => sum + Math.abs(v), 0);
    }
    t.equal(padding, 0, `the padding of ${name} is zero`);
  }
  dispose();
});

test('clip and AdamW: the same bits twice; weight decay alone', async (t) => {
  const ends: Map<string, Float32Array>[] = [];
  for (let round = 0; round < 2; round++) {
    const { stores, program, dispose } = await trainer();
    for (const step of [1, 2, 3]) {
      await stores.gradients.writeAll(gradientsOf(step, 0.1));
      program.write('hyper', adamWHyper(ratesOf(step)));
      program.run();
    }
    ends.push(new Map([...(await stores.student.readAll())]));
    ends.push(new Map([...(await stores.teacher.readAll())]));
    dispose();
  }
  for (const { name } of SPECS) {
    sameBits(t, ends[0].get(name)!, ends[2].get(name)!, `student's ${name} has the same bits twice`);
    sameBits(t, ends[1].get(name)!, ends[3].get(name)!, `teacher's ${name} has the same bits twice`);
  }

  const { stores, program, dispose } = await trainer({ teacher: false });
  program.write('hyper', adamWHyper({ ...ratesOf(1), lastLayerLearningRate: 0.002 }));
  const teacher = await stores.teacher.readAll();
  const before = await stores.student.readAll();
  program.run();
  const after = await stores.student.readAll();
  for (const [name, { lrMultiplier, wdMultiplier }] of GROUPS) {
    const expected = before.get(name)!.map((v) => v * (1 - 0.002 * lrMultiplier * 0.04 * wdMultiplier));
    allClose(t, after.get(name)!, expected, `${name} without a gradient only decays`, { absolute: 0, relative: 1e-7 });
    if (wdMultiplier === 0) sameBits(t, after.get(name)!, before.get(name)!, `${name} is not decayed`);
  }
  const same = await stores.teacher.readAll();
  t.ok(
    SPECS.every(({ name }) => same.get(name)!.every((v, i) => v === teacher.get(name)![i])),
    'without a teacher none is touched',
  );
  dispose();
});

test('a gradient that is not finite is reported and the step skipped', async (t) => {
  const { stores, program, results, dispose } = await trainer();
  program.write('hyper', adamWHyper(ratesOf(2)));
  for (const [what, bits] of [
    ['NaN', 0x7fc00000],
    ['a NaN with its sign', 0xffc12345],
    ['infinity', 0x7f800000],
    ['minus infinity', 0xff800000],
    ['1e30, whose square overflows', new Uint32Array(Float32Array.of(1e30).buffer)[0]],
  ] as const) {
    const gradients = gradientsOf(1, 1);
    const data = gradients.get('dino_head.last_layer.weight_v')!;
    new Uint32Array(data.buffer)[data.length - 1] = bits;
    await stores.gradients.writeAll(gradients);
    const student = await stores.student.readAll();
    const teacher = await stores.teacher.readAll();
    program.run();
    const [flags, step, norms] = await program.readAll([results.flags, results.step, results.norms]);
    t.deepEqual([...flags], [0, 1], `${what} is reported for its sub-module`);
    t.deepEqual([...step.subarray(STEP_COEFFICIENTS)], [0, 0], `${what} sets all coefficients to 0`);
    t.ok([...norms].every(Number.isFinite), `${what} leaves the norms finite`);
    const after = await stores.student.readAll();
    const moments = [
      ...(await stores.firstMoment.readAll()).values(),
      ...(await stores.secondMoment.readAll()).values(),
    ];
    t.ok(
      moments.every((list) => list.every((v) => v === 0)),
      `${what} leaves the moments as they are`,
    );
    const moved = await stores.teacher.readAll();
    for (const { name } of SPECS) {
      sameBits(t, after.get(name)!, student.get(name)!, `${what} leaves ${name} as it is`);
      const expected = teacher.get(name)!.map((v, i) => 0.992 * v + 0.008 * student.get(name)![i]);
      allClose(t, moved.get(name)!, expected, `the teacher's ${name} still moves`, { absolute: 0, relative: 1e-6 });
    }
  }
  await stores.gradients.writeAll(gradientsOf(1, 1));
  program.run();
  const [flags] = await program.readAll([results.flags]);
  t.deepEqual([...flags], [0, 0], 'the next step is in order again');
  dispose();
});

test('optimizer: what it refuses', async (t) => {
  const gpu = await testGpu();
  const rates = ratesOf(1);
  t.throws(() => adamWHyper({ ...rates, beta2: 1 }), /betas 0\.9 and 1 must lie in \[0, 1\)/, 'a beta of 1');
  t.throws(() => adamWHyper({ ...rates, epsilon: 0 }), /epsilon 0/, 'no epsilon');
  t.throws(() => adamWHyper({ ...rates, learningRate: Number.NaN }), /learningRate is NaN/, 'a rate that is no number');
  t.throws(() => lossScaleState({ scale: 3 }), /loss scale of 3: it must be a power of two/, 'another scale');
  t.throws(() => lossScaleState({ scale: 0.5 }), /power of two from 1/, 'a scale below 1');
  t.throws(() => lossScaleState({ appliedSteps: 1.5 }), /whole numbers/, 'half a step');
  const counted = { scale: 256, cleanSteps: 3, appliedSteps: 1000, skippedSteps: 2 };
  t.deepEqual(readLossScale(lossScaleState(counted)), counted, 'a state reads back as it was made');

  const student = new ParameterStore(gpu, 'student', SPECS);
  const stores = { student, gradients: student, firstMoment: student, secondMoment: student };
  const graph = new Graph(new Program(gpu, 'refused'));
  const one = graph.program.input('one', [1]);
  const step = graph.program.input('step', [STEP_COEFFICIENTS + 1]);
  const clip = {
    modules: MODULES,
    moduleCount: 2,
    hyper: graph.program.input('hyper', HYPER_SHAPE),
    lossScale: graph.program.input('loss scale', LOSS_SCALE.shape),
    growthInterval: 0,
  };
  const groups = new Map([...GROUPS].slice(1));
  t.throws(
    () => recordAdamW(graph, stores, groups, step),
    /backbone\.cls_token has no optimizer group/,
    'a parameter without a group',
  );
  t.throws(
    () => recordAdamW(graph, stores, GROUPS, step),
    /sub-module 1, which is outside 0 to 0/,
    'a sub-module without a coefficient',
  );
  t.throws(() => recordClip(graph, student, { ...clip, hyper: one }), /must hold the 8 values/, 'another hyper');
  t.throws(() => recordClip(graph, student, { ...clip, lossScale: one }), /lossScaleState/, 'another state');
  t.throws(
    () => recordClip(graph, student, { ...clip, modules: new Map() }),
    /belongs to no sub-module/,
    'a parameter without a sub-module',
  );
  const teacher = student.like('teacher');
  student.makeHalf();
  t.throws(
    () => recordAdamW(graph, { ...stores, teacher }, GROUPS, step),
    /make them with pairHalf/,
    'a half copy of the student alone',
  );
  teacher.makeHalf();
  t.throws(() => recordAdamW(graph, { ...stores, teacher }, GROUPS, step), /pairHalf/, 'two copies that are no pair');
  teacher.dispose();
  student.dispose();
});

test('the loss scale: unscaling, clipping, skipping, growing; halves follow', async (t) => {
  const growthInterval = 2;
  const all = await trainer({ halves: true, growthInterval });
  const { stores, program, results } = all;
  let state: LossScale = { scale: 2, cleanSteps: 0, appliedSteps: 0, skippedSteps: 0 };
  await all.setLossScale(state);
  const relative = { absolute: 0, relative: 1e-6 };
  for (const [i, overflow] of [false, false, false, true, true, true, false, false].entries()) {
    const what = `step ${i + 1}, scale ${state.scale}`;
    const gradients = gradientsOf(i + 1, i % 2 ? 1 : 1e-3);
    const scaled = new Map([...gradients].map(([name, values]) => [name, values.map((v) => v * state.scale)]));
    if (overflow) scaled.get('backbone.qkv.bias')![260] = Number.POSITIVE_INFINITY;
    await stores.gradients.writeAll(scaled);
    const rates = ratesOf(i + 1);
    program.write('hyper', adamWHyper(rates));
    const before = await allValues(all);
    program.run();
    const [norms, step, parameterNorms] = await program.readAll([
      results.norms,
      results.step,
      results.parameters.norms,
    ]);
    const after = await allValues(all);
    const expectedNorms = normsOf(gradients);
    const coefficients = expectedNorms.map((norm) => oracle.clipCoefficient(norm, 3));
    if (!overflow) {
      allClose(t, norms, expectedNorms, `${what}: norms without the scale`, relative);
      allClose(
        t,
        parameterNorms,
        SPECS.map(({ name }) => oracle.norm(gradients.get(name)!)),
        `${what}: norms of the parameters without the scale`,
        relative,
      );
    }
    allClose(
      t,
      step.subarray(STEP_COEFFICIENTS),
      coefficients.map((c) => (overflow ? 0 : c / state.scale)),
      `${what}: coefficients`,
      relative,
    );
    for (const { name } of SPECS) {
      const [student, firstMoment, secondMoment, teacher] = before.map((values) => values.get(name)!);
      const group = GROUPS.get(name)!;
      const expected = oracle.adamW(
        { student, firstMoment, secondMoment, teacher },
        gradients.get(name)!,
        coefficients[group.module],
        group,
        rates,
        state.appliedSteps + 1,
      );
      const [newStudent, newFirst, newSecond, newTeacher] = after.map((values) => values.get(name)!);
      if (overflow) {
        sameBits(t, newStudent, student, `${what}: an overflow leaves ${name}`);
        sameBits(t, newFirst, firstMoment, `${what}: and its first moment`);
        sameBits(t, newSecond, secondMoment, `${what}: and its second moment`);
        const m = rates.teacherMomentum;
        const moved = Float64Array.from(teacher, (v, k) => m * v + (1 - m) * student[k]);
        allClose(t, newTeacher, moved, `${what}: the teacher's ${name} still moves`, relative);
      } else {
        allClose(t, newStudent, expected.student, `${what}: ${name}`, relative);
        allClose(t, newFirst, expected.firstMoment, `${what}: first moment of ${name}`, relative);
        allClose(t, newSecond, expected.secondMoment, `${what}: second moment of ${name}`, {
          absolute: 1e-38,
          relative: 1e-6,
        });
        allClose(t, newTeacher, expected.teacher, `${what}: teacher's ${name}`, relative);
      }
    }
    for (const store of [stores.student, stores.teacher]) {
      const written = await store.half!.readAll();
      await store.refreshHalf();
      const copied = await store.half!.readAll();
      t.ok(
        SPECS.every(({ name }) => written.get(name)!.every((v, k) => Object.is(v, copied.get(name)![k]))),
        `${what}: the half copies of the ${store.name} have the bits that a copy of its weights has`,
      );
    }
    state = oracle.nextLossScale(state, overflow, growthInterval);
    t.deepEqual(await all.lossScale(), state, `${what}: then the scale is ${state.scale}`);
  }
  t.deepEqual(
    state,
    { scale: 2, cleanSteps: 0, appliedSteps: 5, skippedSteps: 3 },
    'it went to 4, to its least 1 and up',
  );
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  all.dispose();
});

test('the loss scale changes no bits, and halves none of the weights', async (t) => {
  const ends: Map<string, Float32Array>[][] = [];
  for (const [scale, halves] of [
    [1, false],
    [65536, true],
    [65536, true],
  ] as const) {
    const all = await trainer({ halves });
    await all.setLossScale({ scale });
    for (const step of [1, 2, 3]) {
      const scaled = [...gradientsOf(step, 0.1)].map(([name, values]): [string, Float32Array] => [
        name,
        values.map((v) => v * scale),
      ]);
      await all.stores.gradients.writeAll(new Map(scaled));
      all.program.write('hyper', adamWHyper(ratesOf(step)));
      all.program.run();
    }
    const values = await allValues(all);
    if (halves) values.push(await all.stores.student.half!.readAll(), await all.stores.teacher.half!.readAll());
    ends.push(values);
    all.dispose();
  }
  const [plain, scaled, again] = ends;
  for (const { name } of SPECS) {
    const same = (a: Map<string, Float32Array>, b: Map<string, Float32Array>): boolean =>
      a.get(name)!.every((v, i) => Object.is(v, b.get(name)![i]));
    t.ok(
      plain.every((values, i) => same(values, scaled[i])),
      `${name}: the same bits with a scale of 65536`,
    );
    t.ok(
      scaled.every((values, i) => same(values, again[i])),
      `${name}: the same bits twice`,
    );
  }
});

test('bias corrections at any count of steps', async (t) => {
  const all = await trainer({ growthInterval: 2000 });
  await all.stores.gradients.writeAll(gradientsOf(1, 1));
  all.program.write('hyper', adamWHyper(ratesOf(1)));
  for (const applied of [0, 1, 9, 100, 1023, 5000, 123_456, 1_000_000]) {
    await all.setLossScale({ appliedSteps: applied });
    all.program.run();
    const [step] = await all.program.readAll([all.results.step]);
    const corrections = step.subarray(STEP_COEFFICIENTS - 2, STEP_COEFFICIENTS);
    for (const [i, expected] of [1 / (1 - 0.9 ** (applied + 1)), 1 / Math.sqrt(1 - 0.999 ** (applied + 1))].entries()) {
      const error = Math.abs(corrections[i] / expected - 1);
      t.ok(error < 1e-6, `correction ${i + 1} of step ${applied + 1} (error ${error.toExponential(1)})`);
    }
    t.equal((await all.lossScale()).appliedSteps, applied + 1, 'it is counted');
  }
  await all.setLossScale({ scale: 2 ** 40, cleanSteps: 1999 });
  all.program.run();
  t.equal((await all.lossScale()).scale, 2 ** 40, 'the scale has an upper end');
  all.dispose();
});

test('a trajectory of PyTorch under a GradScaler, with overflows', async (t) => {
  const path = new URL('../fixtures/grad_scaler.json', import.meta.url);
  const fixture = JSON.parse(readFileSync(path, 'utf8')) as {
    modules: Record<string, number[]>;
    initialScale: number;
    growthInterval: number;
    maxNorm: number;
    learningRate: number;
    weightDecay: number;
    betas: [number, number];
    epsilon: number;
    teacherMomentum: number;
    initial: number[][];
    steps: {
      gradients: number[][];
      overflow: string | null;
      scale: number;
      norms: Record<string, number>;
      weights: number[][];
      teacher: number[][];
    }[];
    last: { scale: number; cleanSteps: number };
  };
  const places = Object.values(fixture.modules).flatMap((sizes, module) => sizes.map((size) => ({ size, module })));
  const specs = places.map(({ size }, i) => ({ name: `p${i}`, shape: [size] }));
  const groups = new Map(
    places.map(({ module }, i) => [`p${i}`, { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: false, module }]),
  );
  const named = (lists: number[][]): Map<string, Float32Array> =>
    new Map(lists.map((values, i) => [`p${i}`, Float32Array.from(values)]));
  const all = await trainer({ specs, groups, growthInterval: fixture.growthInterval });
  const { stores, program, results } = all;
  await stores.student.writeAll(named(fixture.initial));
  await stores.teacher.writeAll(named(fixture.initial));
  await all.setLossScale({ scale: fixture.initialScale });
  const { betas, ...rates } = fixture;
  program.write(
    'hyper',
    adamWHyper({
      learningRate: rates.learningRate,
      lastLayerLearningRate: rates.learningRate,
      weightDecay: rates.weightDecay,
      teacherMomentum: rates.teacherMomentum,
      beta1: betas[0],
      beta2: betas[1],
      epsilon: rates.epsilon,
      maxNorm: rates.maxNorm,
    }),
  );
  for (const [i, step] of fixture.steps.entries()) {
    t.equal((await all.lossScale()).scale, step.scale, `step ${i}: scale`);
    const gradients = named(step.gradients.map((values) => values.map((v) => v * step.scale)));
    if (step.overflow !== null) {
      const value = { inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY, nan: Number.NaN }[
        step.overflow
      ]!;
      gradients.get('p1')![0] = value;
    }
    await stores.gradients.writeAll(gradients);
    program.run();
    const [norms] = await program.readAll([results.norms]);
    const tolerance = { absolute: 1e-6, relative: 0 };
    if (step.overflow === null) allClose(t, norms, Object.values(step.norms), `step ${i}: norms`, { relative: 1e-6 });
    const [weights, teacher] = [await stores.student.readAll(), await stores.teacher.readAll()];
    for (const k of specs.keys()) {
      allClose(t, weights.get(`p${k}`)!, step.weights[k], `step ${i}: weights ${k}`, tolerance);
      allClose(t, teacher.get(`p${k}`)!, step.teacher[k], `step ${i}: teacher ${k}`, tolerance);
    }
  }
  const { scale, cleanSteps } = await all.lossScale();
  t.deepEqual({ scale, cleanSteps }, fixture.last, 'the scale at the end');
  all.dispose();
});

test('seeds are multiplied by the scale', async (t) => {
  const gpu = await testGpu();
  for (const count of [1, 3, 65]) {
    const program = new Program(gpu, 'seeds');
    const state = program.input('state', LOSS_SCALE.shape);
    const weights = program.input('weights', [count]);
    const seed = program.keep(scaledSeed(new Graph(program), weights, state));
    await program.compile({ guard: true });
    const values = noise(count, 5);
    program.write(weights, values);
    for (const scale of [1, 65536]) {
      program.write(state, lossScaleState({ scale }));
      program.run();
      const [result] = await program.readAll([seed]);
      sameBits(
        t,
        result,
        values.map((v) => v * scale),
        `${count} seeds times ${scale}`,
      );
    }
    t.deepEqual(await program.checkGuards(), [], 'nothing written past them');
    program.dispose();
  }
});

test('gradients of micro-batches add up', async (t) => {
  const gpu = await testGpu();
  const gradients = new ParameterStore(twoShards(gpu), 'gradients', SPECS);
  const accumulated = gradients.like('accumulated');
  const program = new Program(gpu, 'accumulate');
  const first = program.input('first', [1], 'u32');
  recordAccumulate(new Graph(program), accumulated, gradients, first);
  await program.compile();
  // What an earlier step left must not matter, not even where it is no number.
  const left = gradientsOf(9, 1);
  left.get('backbone.cls_token')!.fill(Number.NaN);
  await accumulated.writeAll(left);
  const parts = [1, 2, 3].map((step) => gradientsOf(step, 1));
  for (const [i, part] of parts.entries()) {
    await gradients.writeAll(part);
    program.write(first, Uint32Array.of(Number(i === 0)));
    program.run();
  }
  const sums = await accumulated.readAll();
  for (const { name } of SPECS) {
    const [a, b, c] = parts.map((part) => part.get(name)!);
    const expected = a.map((v, i) => Math.fround(v + b[i]) + c[i]);
    sameBits(t, sums.get(name)!, expected, `${name} is the sum, in the order of the micro-batches`);
  }
  const other = new ParameterStore(gpu, 'other', SPECS.slice(1));
  t.throws(
    () => recordAccumulate(new Graph(new Program(gpu, 'refused')), other, gradients, first),
    /laid out differently/,
    'another layout is refused',
  );
  program.dispose();
  for (const store of [gradients, accumulated, other]) store.dispose();
});

test('more chunks than one dimension of a grid can hold', async (t) => {
  const gpu = await testGpu();
  const count = 66_000;
  const specs = Array.from({ length: count }, (_, i) => ({ name: `p${i}`, shape: [1] }));
  const student = new ParameterStore(gpu, 'student', specs);
  const stores = {
    student,
    gradients: student.like('gradients'),
    firstMoment: student.like('first moment'),
    secondMoment: student.like('second moment'),
    teacher: student.like('teacher'),
  };
  const gradients = noise(count, 3);
  await stores.gradients.writeAll(new Map(specs.map(({ name }, i) => [name, gradients.subarray(i, i + 1)])));
  const program = new Program(gpu, 'many parameters');
  const graph = new Graph(program);
  const hyper = program.input('hyper', HYPER_SHAPE);
  const state = new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]);
  await state.write(LOSS_SCALE.name, lossScaleState({}));
  program.write(hyper, adamWHyper({ ...ratesOf(1, 0), epsilon: 1, teacherMomentum: 0 }));
  const modules = new Map(specs.map(({ name }) => [name, 0]));
  const clip = { modules, moduleCount: 1, hyper, lossScale: state.get(LOSS_SCALE.name), growthInterval: 0 };
  const { step, norms, parameters } = recordClip(graph, stores.gradients, clip);
  const group = { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: false, module: 0 };
  recordAdamW(graph, stores, new Map(specs.map(({ name }) => [name, group])), step);
  await program.compile();
  program.run();
  const [norm, each] = await program.readAll([norms, parameters.norms]);
  const relative = { absolute: 0, relative: 1e-6 };
  allClose(t, each, gradients.map(Math.abs), 'the norm of every parameter', relative);
  allClose(t, norm, [oracle.norm(gradients)], 'the norm of all', relative);
  const expected = gradients.map((g) => (-0.002 * g) / (Math.abs(g) + 1));
  for (const store of [student, stores.teacher]) {
    const values = await store.readAll();
    allClose(
      t,
      specs.map(({ name }) => values.get(name)![0]),
      expected,
      `every parameter of the ${store.name}`,
      relative,
    );
  }
  program.dispose();
  for (const store of [...Object.values(stores), state]) store.dispose();
});
