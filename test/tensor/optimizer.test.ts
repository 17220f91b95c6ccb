import test from 'tape';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { Graph } from '../../src/tensor/graph.js';
import {
  type AdamWRates,
  adamWHyper,
  HYPER_SHAPE,
  type OptimizerGroup,
  recordAdamW,
  recordClip,
} from '../../src/tensor/optimizer.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
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
const MODULES = new Map([...GROUPS].map(([name, { module }]) => [name, module]));
const MODULE_NAMES = ['backbone', 'dino_head'];

const elementsOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b);

/** The same GPU with small buffers, so that the parameters fill two shards. */
const twoShards = (gpu: Gpu): Gpu =>
  Object.create(gpu, { capabilities: { value: { ...gpu.capabilities, maxBindingSizeBytes: 70_000 } } });

interface Trainer {
  readonly stores: Record<'student' | 'gradients' | 'firstMoment' | 'secondMoment' | 'teacher', ParameterStore>;
  readonly program: Program;
  readonly results: { norms: Tensor; coefficients: Tensor; flags: Tensor; parameterNorms: Tensor };
  dispose(): void;
}

/** Clip and AdamW over all stores, with the values of a network in the middle of its training. */
async function trainer(withTeacher = true): Promise<Trainer> {
  const gpu = await testGpu();
  const student = new ParameterStore(twoShards(gpu), 'student', SPECS);
  const stores = {
    student,
    gradients: student.like('gradients'),
    firstMoment: student.like('first moment'),
    secondMoment: student.like('second moment'),
    teacher: student.like('teacher'),
  };
  // Every second parameter is so small that its step is seen to the last digit.
  const values = (seed: number): Map<string, Float32Array> =>
    new Map(
      SPECS.map(({ name, shape }, i) => [name, noise(elementsOf(shape), seed + i).map((v) => (i % 2 ? v : 1e-6 * v))]),
    );
  await stores.student.writeAll(values(1));
  await stores.teacher.writeAll(values(11));
  const program = new Program(gpu, 'optimizer');
  const graph = new Graph(program);
  const maxNorm = program.input('max norm', [1]);
  const hyper = program.input('hyper', HYPER_SHAPE);
  const { norms, coefficients, flags, parameters } = recordClip(graph, stores.gradients, MODULES, 2, maxNorm);
  recordAdamW(graph, withTeacher ? stores : { ...stores, teacher: undefined }, GROUPS, coefficients, hyper);
  await program.compile({ guard: true });
  return {
    stores,
    program,
    results: { norms, coefficients, flags, parameterNorms: parameters.norms },
    dispose: () => {
      program.dispose();
      for (const store of Object.values(stores)) store.dispose();
    },
  };
}

const gradientsOf = (step: number, size: number): Map<string, Float32Array> =>
  new Map(
    SPECS.map(({ name, shape }, i) => [name, noise(elementsOf(shape), 100 * step + i).map((v) => v * size * (i + 1))]),
  );

const ratesOf = (step: number): AdamWRates => ({
  learningRate: 0.002 / step,
  lastLayerLearningRate: step === 1 ? 0 : 0.001,
  weightDecay: 0.04 * step,
  teacherMomentum: step === 4 ? 1 - 1e-7 : 0.992,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  step,
});

test('AdamW on one number, by hand', (t) => {
  const state = { student: [2], firstMoment: [0], secondMoment: [0], teacher: [1] };
  const group = { lrMultiplier: 0.5, wdMultiplier: 1, isLastLayer: false, module: 0 };
  const rates = { ...ratesOf(1), learningRate: 0.2, weightDecay: 0.1, teacherMomentum: 0.75 };
  const next = oracle.adamW(state, [-3], 0.5, group, rates);
  // The first step is the sign of the gradient times the rate: 2 (1 - 0.1 · 0.1) + 0.1.
  t.ok(Math.abs(next.student[0] - 2.08) < 1e-8, 'student');
  t.ok(Math.abs(next.teacher[0] - (0.75 + 0.25 * 2.08)) < 1e-8, 'teacher');
  t.end();
});

test('clip and AdamW against float64, several steps', async (t) => {
  const { stores, program, results, dispose } = await trainer();
  t.equal(stores.student.shards.length, 2, 'the parameters fill two shards');
  for (const [step, size, maxNorm] of [
    [1, 1, 3],
    [2, 1e-3, 3],
    [3, 1e-12, 3],
    [4, 30, 0],
  ]) {
    const gradients = gradientsOf(step, size);
    const rates = ratesOf(step);
    await stores.gradients.writeAll(gradients);
    program.write('max norm', Float32Array.of(maxNorm));
    program.write('hyper', adamWHyper(rates));
    const before = await Promise.all(
      [stores.student, stores.firstMoment, stores.secondMoment, stores.teacher].map((store) => store.readAll()),
    );
    program.run();
    const [norms, coefficients, flags, parameterNorms] = await program.readAll([
      results.norms,
      results.coefficients,
      results.flags,
      results.parameterNorms,
    ]);
    const expectedNorms = MODULE_NAMES.map((_, m) =>
      oracle.norm(...SPECS.filter(({ name }) => MODULES.get(name) === m).map(({ name }) => gradients.get(name)!)),
    );
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
    allClose(t, coefficients, expectedCoefficients, `step ${step}: clip coefficients`, relative);
    t.deepEqual([...flags], [0, 0], `step ${step}: all finite`);

    const after = await Promise.all(
      [stores.student, stores.firstMoment, stores.secondMoment, stores.teacher].map((store) => store.readAll()),
    );
    for (const { name } of SPECS) {
      const [student, firstMoment, secondMoment, teacher] = before.map((values) => values.get(name)!);
      const group = GROUPS.get(name)!;
      const expected = oracle.adamW(
        { student, firstMoment, secondMoment, teacher },
        gradients.get(name)!,
        expectedCoefficients[group.module],
        group,
        rates,
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
    program.write('max norm', Float32Array.of(3));
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

  const { stores, program, dispose } = await trainer(false);
  program.write('max norm', Float32Array.of(3));
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
  const rates = ratesOf(2);
  program.write('max norm', Float32Array.of(3));
  program.write('hyper', adamWHyper(rates));
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
    const [flags, coefficients, norms] = await program.readAll([results.flags, results.coefficients, results.norms]);
    t.deepEqual([...flags], [0, 1], `${what} is reported for its sub-module`);
    t.deepEqual([...coefficients], [0, 0], `${what} sets all coefficients to 0`);
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
  t.throws(() => adamWHyper({ ...rates, step: 0 }), /step 0 must be a whole number from 1/, 'a step before the first');
  t.throws(() => adamWHyper({ ...rates, beta2: 1 }), /betas 0\.9 and 1 must lie in \[0, 1\)/, 'a beta of 1');
  t.throws(() => adamWHyper({ ...rates, epsilon: 0 }), /epsilon 0/, 'no epsilon');
  t.throws(() => adamWHyper({ ...rates, learningRate: Number.NaN }), /learningRate is NaN/, 'a rate that is no number');
  t.ok(Math.abs(adamWHyper({ ...rates, step: 1 })[7] - 10) < 1e-6, 'the bias correction of the first step is 1 / 0.1');

  const student = new ParameterStore(gpu, 'student', SPECS);
  const stores = { student, gradients: student, firstMoment: student, secondMoment: student };
  const graph = new Graph(new Program(gpu, 'refused'));
  const one = graph.program.input('one', [1]);
  const hyper = graph.program.input('hyper', HYPER_SHAPE);
  const groups = new Map([...GROUPS].slice(1));
  t.throws(
    () => recordAdamW(graph, stores, groups, one, hyper),
    /backbone\.cls_token has no optimizer group/,
    'a parameter without a group',
  );
  t.throws(
    () => recordAdamW(graph, stores, GROUPS, one, hyper),
    /sub-module 1, which is outside 0 to 0/,
    'a sub-module without a coefficient',
  );
  t.throws(() => recordAdamW(graph, stores, GROUPS, one, one), /must hold the 9 values/, 'another hyper');
  t.throws(
    () => recordClip(graph, student, new Map(), 2, one),
    /belongs to no sub-module/,
    'a parameter without a sub-module',
  );
  student.dispose();
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
  const maxNorm = program.input('max norm', [1]);
  program.write(hyper, adamWHyper({ ...ratesOf(1), epsilon: 1, teacherMomentum: 0 }));
  const modules = new Map(specs.map(({ name }) => [name, 0]));
  const { coefficients, norms, parameters } = recordClip(graph, stores.gradients, modules, 1, maxNorm);
  const group = { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: false, module: 0 };
  recordAdamW(graph, stores, new Map(specs.map(({ name }) => [name, group])), coefficients, hyper);
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
  for (const store of Object.values(stores)) store.dispose();
});
