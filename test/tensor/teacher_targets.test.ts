import test, { type Test } from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { goldenImage } from '../../src/io/golden_hash.js';
import { givenLogits } from '../../src/tensor/prototype_logits.js';
import {
  CENTER_MOMENTUM,
  sinkhornKnopp,
  softmaxCenter,
  type TeacherRows,
  type TeacherTargets,
  wholeTargets,
} from '../../src/tensor/teacher_targets.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { COMPONENT_CASES, componentGoldens, NO_GOLDENS } from '../oracle/component_goldens.js';
import * as oracle from '../oracle/teacher_targets.js';

const Z = Float32Array.of(0.1, 0.2, -0.3, 0.05, 0, 0.4, 0.1, -0.2, 0.3, -0.1, 0.2, 0);

interface Setting {
  readonly logits: Float32Array;
  readonly columns: number;
  readonly temperature: number;
  readonly count?: number;
  /** Rows of a tile; all rows in one without it. */
  readonly tileRows?: number;
}

type Record = (program: Program, rows: TeacherRows) => TeacherTargets;

/** Runs an operator that makes targets, twice, under guard; returns all rows. */
async function targetsOf(t: Test, setting: Setting, record: Record): Promise<Float32Array> {
  const { logits, columns, temperature, count, tileRows } = setting;
  const program = new Program(await testGpu(), 'teacher targets');
  const input = program.input('logits', [logits.length / columns, columns]);
  program.write(input, logits);
  const tau = program.input('temperature', [1]);
  program.write(tau, Float32Array.of(temperature));
  const used = count === undefined ? undefined : program.input('count', [1], 'u32');
  if (used && count !== undefined) program.write(used, Uint32Array.of(count));
  const rows = { logits: givenLogits(program, input, tileRows), temperature: tau, count: used };
  const targets = program.keep(wholeTargets(program, record(program, rows)));
  await program.compile({ guard: true });
  program.run();
  const first = await program.read(targets);
  program.run();
  sameBits(t, first, await program.read(targets), 'the same bits twice');
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
  return first as Float32Array;
}

const sinkhorn: Record = (program, rows) => sinkhornKnopp(program, rows);

/** Bound for probabilities: relative to the largest of them, like 1e-5 in the logits. */
const PROBABILITIES = { absolute: 1e-6, relative: 2e-5 };

function assertRowSums(t: Test, targets: Float32Array, columns: number, expected: number, message: string): void {
  const sums = Array.from({ length: targets.length / columns }, (_, i) =>
    targets.subarray(i * columns, (i + 1) * columns).reduce((a, b) => a + b, 0),
  );
  allClose(t, sums, new Float32Array(sums.length).fill(expected), message, { absolute: 1e-5, relative: 0 });
}

test('sinkhorn-knopp, golden numbers of the specification', async (t) => {
  const golden = [
    [0.165856, 0.080354, 0.001858, 0.751932],
    [0.019646, 0.69155, 0.278354, 0.01045],
    [0.51505, 0.000197, 0.419102, 0.065651],
  ].flat();
  allClose(t, oracle.sinkhornKnopp(Z, 4, 0.07), golden, 'the oracle', { absolute: 1e-6, relative: 0 });
  const targets = await targetsOf(t, { logits: Z, columns: 4, temperature: 0.07 }, sinkhorn);
  allClose(t, targets, golden, 'the targets', { absolute: 2e-6, relative: 0 });
});

for (const [rows, columns, tileRows] of [
  [1, 40, 1],
  [4, 7, 4],
  [3, 65, 1],
  [50, 261, 50],
  [50, 261, 12],
  [50, 264, 20],
  [257, 130, 257],
  [257, 130, 100],
  [18, 4099, 18],
]) {
  test(`sinkhorn-knopp ${rows} x ${columns} in tiles of ${tileRows}`, async (t) => {
    const logits = noise(rows * columns, rows);
    for (const temperature of [0.04, 0.07]) {
      const targets = await targetsOf(t, { logits, columns, temperature, tileRows }, sinkhorn);
      const expected = oracle.sinkhornKnopp(logits, columns, temperature);
      allClose(t, targets, expected, `temperature ${temperature}`, PROBABILITIES);
      assertRowSums(t, targets, columns, 1, 'every row sums to 1');
    }
  });
}

test('sinkhorn-knopp, other numbers of iterations', async (t) => {
  for (const iterations of [1, 2, 7]) {
    const logits = noise(20 * 33, 5);
    const record: Record = (program, rows) => sinkhornKnopp(program, { ...rows, iterations });
    const targets = await targetsOf(t, { logits, columns: 33, temperature: 0.1 }, record);
    const expected = oracle.sinkhornKnopp(logits, 33, 0.1, iterations);
    allClose(t, targets, expected, `${iterations} iterations`, PROBABILITIES);
  }
});

test('sinkhorn-knopp of rows of which some are used', async (t) => {
  const columns = 70;
  for (const [count, tileRows] of [
    [23, 23],
    [17, 23],
    [16, 8],
    [5, 8],
    [17, 4],
    [1, 23],
  ]) {
    const logits = noise(23 * columns, 8);
    // Padding may hold anything.
    logits.fill(Number.NaN, count * columns);
    const targets = await targetsOf(t, { logits, columns, temperature: 0.06, count, tileRows }, sinkhorn);
    const expected = oracle.sinkhornKnopp(logits.subarray(0, count * columns), columns, 0.06);
    const what = `${count} of 23 rows in tiles of ${tileRows}`;
    allClose(t, targets.subarray(0, count * columns), expected, what, PROBABILITIES);
    t.ok(
      targets.subarray(count * columns).every((value) => value === 0),
      'the rows beyond the count are zeros',
    );
  }
});

test('sinkhorn-knopp without a used row', async (t) => {
  const setting = { logits: noise(6 * 45, 1), columns: 45, temperature: 0.06, count: 0 };
  const targets = await targetsOf(t, setting, sinkhorn);
  t.ok(
    targets.every((value) => value === 0),
    'zeros',
  );
});

test('sinkhorn-knopp of logits whose exponentials overflow or vanish in float32', async (t) => {
  const [rows, columns] = [19, 50];
  // Up to 40 / 0.04 = 1000 in the exponent, and one sample and one prototype far below all others.
  const logits = noise(rows * columns, 9).map((value) => 10 * value);
  for (let k = 0; k < columns; k++) logits[3 * columns + k] -= 30;
  for (let i = 0; i < rows; i++) logits[i * columns + 11] -= 25;
  const targets = await targetsOf(t, { logits, columns, temperature: 0.04 }, sinkhorn);
  t.ok(
    targets.every((value) => Number.isFinite(value)),
    'every target is finite',
  );
  assertRowSums(t, targets, columns, 1, 'every row sums to 1');
  const expected = oracleInLogarithms(logits, columns, 0.04);
  allClose(t, targets, expected, 'the targets', { absolute: 1e-6, relative: 1e-3 });
});

/** The reference's iteration on logarithms, for inputs at which the plain one underflows even in float64. */
function oracleInLogarithms(logits: ArrayLike<number>, columns: number, temperature: number): Float64Array {
  const rows = logits.length / columns;
  const q = Float64Array.from(logits, (z) => z / temperature);
  const normalize = (index: (j: number) => number, count: number): void => {
    let largest = -Infinity;
    let sum = 0;
    for (let j = 0; j < count; j++) largest = Math.max(largest, q[index(j)]);
    for (let j = 0; j < count; j++) sum += Math.exp(q[index(j)] - largest);
    for (let j = 0; j < count; j++) q[index(j)] -= largest + Math.log(sum);
  };
  for (let iteration = 0; iteration < 3; iteration++) {
    for (let k = 0; k < columns; k++) normalize((i) => i * columns + k, rows);
    for (let i = 0; i < rows; i++) normalize((k) => i * columns + k, columns);
  }
  return q.map(Math.exp);
}

for (const name of COMPONENT_CASES) {
  test(`sinkhorn-knopp against the reference, ${name}`, async (t) => {
    const goldens = componentGoldens(name);
    if (!goldens) {
      t.skip(NO_GOLDENS);
      return;
    }
    const { B, K, expected } = goldens;
    const logits = goldenImage('sk.logits', [B, K]).map((value) => Math.fround(0.3) * value);
    const dino = await targetsOf(t, { logits, columns: K, temperature: 0.05 }, sinkhorn);
    allClose(t, dino, expected('sk.out'), 'DINO targets', PROBABILITIES);
    const padded = new Float32Array((B + 5) * K).fill(1);
    padded.set(logits);
    const ibot = await targetsOf(t, { logits: padded, columns: K, temperature: 0.07, count: B }, sinkhorn);
    allClose(t, ibot.subarray(0, B * K), expected('sk_ibot.out'), 'iBOT targets, padded', PROBABILITIES);
  });
}

/** A center that persists between programs and steps, in a buffer of its own. */
async function centerOf(values: Float32Array): Promise<Tensor> {
  const gpu = await testGpu();
  const center = new Tensor('center', [values.length], 'f32', 'persistent');
  const buffer = gpu.storageBuffer(center.paddedBytes, 'center');
  gpu.device.queue.writeBuffer(buffer, 0, new Float32Array(values));
  center.placement = { buffer, offsetBytes: 0 };
  return center;
}

/** Records the targets of a setting, and the center's update. */
function softmaxTargets(program: Program, setting: Setting, center: Tensor): Tensor {
  const { logits, columns, temperature, count, tileRows } = setting;
  const input = program.constant('logits', [logits.length / columns, columns], logits);
  const targets = softmaxCenter(program, {
    logits: givenLogits(program, input, tileRows),
    temperature: program.constant('temperature', [1], Float32Array.of(temperature)),
    count: count === undefined ? undefined : program.constant('count', [1], Uint32Array.of(count)),
    momentum: CENTER_MOMENTUM,
    center,
  });
  return wholeTargets(program, targets);
}

test('softmax with centering, golden numbers of the specification', async (t) => {
  const golden = [
    [0.114191, 0.843762, 0.000038, 0.042008, 0.000335, 0.997188, 0.002472, 0.000006],
    [0.878619, 0.000295, 0.118908, 0.002178],
  ].flat();
  const next = [
    [0.11843, 0.818652, 0.000052, 0.062865, 0.000357, 0.996187, 0.003446, 0.000009],
    [0.847038, 0.000266, 0.149667, 0.00303],
  ].flat();
  const program = new Program(await testGpu(), 'two steps of centering');
  const center = await centerOf(new Float32Array(4));
  const targets = program.keep(softmaxTargets(program, { logits: Z, columns: 4, temperature: 0.05 }, center));
  await program.compile();
  const close = { absolute: 1.5e-6, relative: 0 };
  program.run();
  allClose(t, await program.read(targets), golden, 'the first step has no center yet', close);
  allClose(t, await program.read(center), [0.0133333, 0.0166667, 0, -0.005], 'the center after it', close);
  program.run();
  allClose(t, await program.read(targets), next, 'the second step uses it', close);
  program.dispose();
});

for (const [rows, columns, count, tileRows] of [
  [1, 40, undefined, 1],
  [50, 261, undefined, 50],
  [50, 261, undefined, 16],
  [23, 70, 17, 23],
  [23, 70, 17, 8],
  [23, 70, 1, 4],
  [5, 4099, 4, 5],
] as const) {
  test(`softmax with centering ${rows} x ${columns}, ${count ?? 'all'} used, in tiles of ${tileRows}`, async (t) => {
    const start = noise(columns, 4).map((value) => 0.1 * value);
    const logits = noise(rows * columns, 3);
    const used = logits.subarray(0, columns * (count ?? rows));
    logits.fill(Number.NaN, used.length);
    const setting = { logits, columns, temperature: 0.05, count, tileRows };
    const still = await centerOf(start);
    const targets = await targetsOf(t, setting, (program, teacher) =>
      softmaxCenter(program, { ...teacher, center: still }),
    );
    allClose(t, targets.subarray(0, used.length), oracle.softmaxCenter(used, start, 0.05), 'targets', PROBABILITIES);
    t.ok(
      targets.subarray(used.length).every((value) => value === 0),
      'the rows beyond the count are zeros',
    );

    const center = await centerOf(start);
    const program = new Program(await testGpu(), 'center');
    softmaxTargets(program, setting, center);
    await program.compile({ guard: true });
    program.run();
    allClose(t, await program.read(center), oracle.updateCenter(used, start), 'center', { absolute: 1e-6 });
    sameBits(t, await program.read(still), start, 'without momentum it stays');
    program.dispose();
  });
}

test('a step without a used row leaves the center as it is', async (t) => {
  const start = noise(45, 4);
  const center = await centerOf(start);
  const program = new Program(await testGpu(), 'center without rows');
  softmaxTargets(program, { logits: noise(6 * 45, 2), columns: 45, temperature: 0.05, count: 0 }, center);
  await program.compile();
  program.run();
  sameBits(t, await program.read(center), start, 'the same bits');
  program.dispose();
});

test('teacher targets refuse what does not fit', async (t) => {
  const program = new Program(await testGpu(), 'targets refused');
  const logits = givenLogits(program, program.input('logits', [6, 8]));
  const temperature = program.input('temperature', [1]);
  t.throws(() => sinkhornKnopp(program, { logits, temperature, iterations: 0 }), /at least 1/);
  t.throws(() => sinkhornKnopp(program, { logits, temperature, count: temperature }), /must be u32/);
  t.throws(() => softmaxCenter(program, { logits, temperature, center: temperature }), /center \[1\]/);
});
