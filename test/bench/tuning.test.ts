/** Tuning: shapes are found by recording, variants are timed only where they are right, and noise does not win. */

import { test } from 'tape';
import { keysOf, type TuningCase, type TuningChoice, tuningCases } from '../../bench/tuning_cases.js';
import { tuneCase, winnerOf } from '../../bench/tuning.js';
import * as gemm from '../../kernels/gemm.js';
import { matrixConfig, restrictFamily } from '../../src/gpu/capabilities.js';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { attention } from '../../src/tensor/attention.js';
import { Graph } from '../../src/tensor/graph.js';
import { dispatchSplitGemm, linear } from '../../src/tensor/linear.js';
import { TENSOR_CORES, testGpu } from '../fixture.js';

const SECONDS = 0.01;

test('recording a program tells what it has to choose', async (t) => {
  const gpu = await testGpu();
  const keys = keysOf(gpu, (dry) => {
    const program = new Program(dry, 'recorded');
    const graph = new Graph(program);
    const input = (name: string, ...shape: number[]) => program.input(name, shape);
    const x = linear(graph, input('x', 34, 64), input('w', 192, 64));
    linear(graph, x, input('w again', 64, 192));
    linear(graph, x, input('w once more', 64, 192));
    attention(graph, x, 2, [{ count: 2, length: 17 }]);
    const [a, b] = [input('a', 1024, 8), input('b', 1024, 16)];
    dispatchSplitGemm(program, { layout: 'TN', M: 8, N: 16, K: 1024 }, { a, b, out: input('out', 8, 16) });
  });
  t.deepEqual(keys.slice(0, 4), [
    'gemm NT f32 f32 34x192x64',
    'gemm NT f32 f32 34x64x192',
    'attention f32 2x32 2x17',
    'gemm_split TN f32 f32 8x16x1024',
  ]);
  t.ok(/^gemm TN f32 f32 8x16x1024\/\d$/.test(keys[4]) && keys.length === 5, keys.slice(4).join());
});

test('cases behind the keys', (t) => {
  const params = { layout: 'TN', M: 384, N: 384, K: 16448, operands: 'f16', result: 'f32' } as const;
  const keys = [
    'gemm NT f16 f16 514x384x384',
    gemm.splitKey(params),
    gemm.gemmKey(params),
    gemm.gemmKey({ ...params, parts: 7 }),
    'attention_gradient f16 6x64 2x257',
    'gemm NT f32 f32 514x384x147',
    'something else',
  ];
  const tuned = new Map([['gemm NT f16 f16 514x384x384', 'tiled']]);
  const cases = tuningCases(keys, { ...TENSOR_CORES, tuned });
  t.deepEqual(
    cases.map(({ key }) => key),
    [keys[0], keys[1], keys[4]],
    'each choice once, and none where there is only one variant',
  );
  t.equal(cases[0].rule, 'mma', "the rule's, whatever was measured before");
  t.deepEqual(cases[0].choices[1], {
    ...cases[0].choices[1],
    name: 'mma-narrow',
    entries: { [keys[0]]: 'mma-narrow' },
  });
  const parts = gemm.ruleParts(params, TENSOR_CORES);
  t.equal(cases[1].rule, `mma/${parts}`);
  t.deepEqual(
    cases[1].choices.find(({ name }) => name === `tiled/${2 * parts}`)?.entries,
    { [keys[1]]: String(2 * parts), [`${keys[2]}/${2 * parts}`]: 'tiled' },
    'parts and their variant',
  );
  t.deepEqual(cases[1].choices.find(({ name }) => name === 'direct')?.entries, { [keys[1]]: '1', [keys[2]]: 'direct' });
  t.deepEqual(
    cases[2].choices.map(({ name }) => name),
    ['mma', 'mma-32', 'tiled'],
  );
  for (const { choices, rule, plain } of cases) {
    t.ok(
      [rule, plain].every((name) => choices.some((choice) => choice.name === name)),
      `${rule} and ${plain}`,
    );
  }
  t.end();
});

test('the winner', (t) => {
  const measured = (entries: Record<string, number>) => new Map(Object.entries(entries));
  t.equal(winnerOf(measured({ rule: 2, other: 1 }), 'rule'), 'other');
  t.equal(winnerOf(measured({ rule: 1, other: 2 }), 'rule'), 'rule');
  t.equal(winnerOf(measured({ rule: 1, other: 0.98 }), 'rule'), 'rule', 'less than noise is no gain');
  t.equal(winnerOf(measured({ slow: 2, other: 1 }), 'rule'), 'other', 'the rule was wrong');
  t.equal(winnerOf(measured({}), 'rule'), undefined, 'nothing was right');
  t.end();
});

test('tiny shapes are tuned on this adapter', async (t) => {
  const gpu = await testGpu();
  const keys = [
    'gemm NT f16 f16 17x64x32',
    'gemm_split TN f32 f32 16x32x600',
    'attention_gradient f16 2x32 3x17+1x5',
    'attention f32 2x32 2x9',
  ];
  for (const one of tuningCases(keys, gpu.capabilities)) {
    const { memory } = gpu;
    const outcome = await tuneCase(gpu, one, { seconds: SECONDS });
    t.deepEqual(
      outcome.choices.flatMap(({ refused }) => refused ?? []),
      [],
      `${one.key}: all are right`,
    );
    t.ok(
      outcome.choices.every(({ ms }) => ms! > 0),
      outcome.choices.map(({ name, ms }) => `${name} ${ms} ms`).join(),
    );
    t.ok(outcome.winner !== undefined && outcome.gain! > 0 && one.key in outcome.entries, `${outcome.winner} wins`);
    t.deepEqual(gpu.memory, memory, 'nothing is left on the GPU');
  }
});

/** A case of this adapter with one more choice, which is fast and wrong. */
async function withWrong(rule?: string): Promise<TuningCase> {
  const gpu = await testGpu();
  const params = { layout: 'NT', M: 65, N: 64, K: 64, variant: 'tiled' } as const;
  const choice = (name: string, rows: number): TuningChoice => ({
    name,
    entries: { 'a key': name },
    record: (program, [a, b]) => {
      const out = program.intermediate('product', [params.M, params.N]);
      program.dispatch(gemm.plan({ ...params, M: rows }, gpu.capabilities), [a, b, a, a, a, out]);
      return [out];
    },
  });
  return {
    key: 'a key',
    inputs: [params.M, params.N].map((rows) => ({ shape: [rows, params.K], storage: 'f32', scale: 1 })),
    flops: 1e7,
    choices: [choice('plain', params.M), choice('wrong', 1)],
    rule: rule ?? 'plain',
    plain: 'plain',
    bound: 1e-5,
  };
}

test('a wrong variant never wins', async (t) => {
  const gpu = await testGpu();
  for (const rule of ['plain', 'wrong']) {
    const { choices, winner, entries, gain } = await tuneCase(gpu, await withWrong(rule), { seconds: SECONDS });
    const wrong = choices.find(({ name }) => name === 'wrong');
    t.ok(wrong?.ms === undefined && /result 0: error/.test(wrong?.refused ?? ''), wrong?.refused);
    t.equal(winner, 'plain', `even where the rule takes ${rule}`);
    t.equal(gain !== undefined, rule === 'plain', 'a gain over what is right only');
    t.deepEqual(entries, { 'a key': 'plain' });
  }
});

test('variants that cannot be recorded or compiled are refused, not the others', async (t) => {
  const gpu = await testGpu();
  const one = await withWrong();
  const plan = gemm.plan({ layout: 'NT', M: 65, N: 64, K: 64 }, gpu.capabilities);
  const broken = (name: string, dispatch: (program: Program, a: Tensor, out: Tensor) => void): TuningChoice => ({
    name,
    entries: {},
    record: (program, [a]) => {
      const out = program.intermediate('product', [65, 64]);
      dispatch(program, a, out);
      return [out];
    },
  });
  const choices = [
    one.choices[0],
    broken('unbound', (program, a, out) => program.dispatch(plan, [a, out])),
    broken('undefined names', (program, a, out) => program.dispatch({ ...plan, prelude: {} }, [a, a, a, a, a, out])),
  ];
  const { memory } = gpu;
  const outcome = await tuneCase(gpu, { ...one, choices }, { seconds: SECONDS });
  for (const { name, ms, refused } of outcome.choices.slice(1))
    t.ok(ms === undefined && refused, `${name}: ${refused}`);
  t.equal(outcome.winner, 'plain');
  t.deepEqual(gpu.memory, memory, 'nothing is left on the GPU');
});

test('subgroup matrices are tuned where they are asked for', async (t) => {
  const gpu = await testGpu();
  if (!matrixConfig(gpu.capabilities)) {
    t.skip(`${gpu.capabilities.description} has no subgroup matrices of halves with float32 sums`);
    return;
  }
  const asked = Object.create(gpu, { capabilities: { value: restrictFamily(gpu.capabilities, 'mma') } }) as Gpu;
  const keys = ['gemm NT f16 f16 70x104x64', 'gemm_split TN f16 f32 64x48x520', 'attention_gradient f16 1x64 1x33'];
  for (const one of tuningCases(keys, asked.capabilities)) {
    const { choices } = await tuneCase(asked, one, { seconds: SECONDS });
    t.ok(choices.length > 2 && choices.every(({ refused }) => refused === undefined), JSON.stringify(choices));
  }
});
