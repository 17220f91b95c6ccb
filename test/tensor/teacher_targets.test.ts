import test, { type Test } from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { goldenImage } from '../../src/io/golden_hash.js';
import { Graph } from '../../src/tensor/graph.js';
import { sinkhornKnopp, softmaxCenter, type TeacherTargets, updateCenter } from '../../src/tensor/teacher_targets.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { COMPONENT_CASES, componentGoldens, NO_GOLDENS } from '../oracle/component_goldens.js';
import * as oracle from '../oracle/teacher_targets.js';

const Z = Float32Array.of(0.1, 0.2, -0.3, 0.05, 0, 0.4, 0.1, -0.2, 0.3, -0.1, 0.2, 0);

interface Setting {
  readonly logits: Float32Array;
  readonly columns: number;
  readonly temperature: number;
  readonly rowStart?: number;
  readonly rows?: number;
  readonly count?: number;
}

type Record = (graph: Graph, targets: TeacherTargets) => void;

/** Runs an operator that writes targets, twice, under guard; returns all rows of the target matrix. */
async function targetsOf(t: Test, setting: Setting, record: Record): Promise<Float32Array> {
  const { logits, columns, temperature, rowStart = 0, count } = setting;
  const allRows = logits.length / columns;
  const rows = setting.rows ?? allRows;
  const program = new Program(await testGpu(), 'teacher targets');
  const input = program.input('logits', [allRows, columns]);
  program.write(input, logits);
  const tau = program.input('temperature', [1]);
  program.write(tau, Float32Array.of(temperature));
  const used = count === undefined ? undefined : program.input('count', [1], 'u32');
  if (used && count !== undefined) program.write(used, Uint32Array.of(count));
  const into = program.keep(program.intermediate('targets', [allRows, columns]));
  record(new Graph(program), { logits: input, temperature: tau, rowStart, rows, count: used, into });
  await program.compile({ guard: true });
  program.run();
  const first = await program.read(into);
  program.run();
  sameBits(t, first, await program.read(into), 'the same bits twice');
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
  return first as Float32Array;
}

const sinkhorn: Record = (graph, targets) => sinkhornKnopp(graph, targets);

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

for (const [rows, columns] of [
  [1, 40],
  [4, 7],
  [3, 65],
  [50, 261],
  [257, 130],
  [18, 4099],
]) {
  test(`sinkhorn-knopp ${rows} x ${columns}`, async (t) => {
    const logits = noise(rows * columns, rows);
    for (const temperature of [0.04, 0.07]) {
      const targets = await targetsOf(t, { logits, columns, temperature }, sinkhorn);
      const expected = oracle.sinkhornKnopp(logits, columns, temperature);
      allClose(t, targets, expected, `temperature ${temperature}`, PROBABILITIES);
      assertRowSums(t, targets, columns, 1, 'every row sums to 1');
    }
  });
}

test('sinkhorn-knopp, other numbers of iterations', async (t) => {
  for (const iterations of [1, 2, 7]) {
    const logits = noise(20 * 33, 5);
    const record: Record = (graph, targets) => sinkhornKnopp(graph, { ...targets, iterations });
    const targets = await targetsOf(t, { logits, columns: 33, temperature: 0.1 }, record);
    const expected = oracle.sinkhornKnopp(logits, 33, 0.1, iterations);
    allClose(t, targets, expected, `${iterations} iterations`, PROBABILITIES);
  }
});

test('sinkhorn-knopp of some rows, of which some are used', async (t) => {
  const columns = 70;
  for (const count of [23, 17, 16, 5, 1]) {
    const logits = noise(30 * columns, 8);
    // Padding may hold anything.
    logits.fill(Number.NaN, (4 + count) * columns, 27 * columns);
    const setting = { logits, columns, temperature: 0.06, rowStart: 4, rows: 23, count };
    const targets = await targetsOf(t, setting, sinkhorn);
    const used = logits.subarray(4 * columns, (4 + count) * columns);
    const expected = oracle.sinkhornKnopp(used, columns, 0.06);
    const got = targets.subarray(4 * columns, (4 + count) * columns);
    allClose(t, got, expected, `${count} of 23 rows`, PROBABILITIES);
    const padding = targets.subarray((4 + count) * columns, 27 * columns);
    t.ok(
      padding.every((value) => value === 0),
      'the rows beyond the count are zeros',
    );
    t.ok(Number.isNaN(targets[4 * columns - 1]) && Number.isNaN(targets[27 * columns]), 'other rows are not touched');
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
  const graph = new Graph(program);
  const center = await centerOf(new Float32Array(4));
  const logits = program.constant('logits', [3, 4], Z);
  const temperature = program.constant('temperature', [1], Float32Array.of(0.05));
  const into = program.keep(program.intermediate('targets', [3, 4]));
  softmaxCenter(graph, { logits, temperature, rowStart: 0, rows: 3, center, into });
  updateCenter(graph, { logits, rowStart: 0, rows: 3, center });
  await program.compile();
  const close = { absolute: 1.5e-6, relative: 0 };
  program.run();
  allClose(t, await program.read(into), golden, 'the first step has no center yet', close);
  allClose(t, await program.read(center), [0.0133333, 0.0166667, 0, -0.005], 'the center after it', close);
  program.run();
  allClose(t, await program.read(into), next, 'the second step uses it', close);
  program.dispose();
});

for (const [rows, columns, count] of [
  [1, 40, undefined],
  [50, 261, undefined],
  [23, 70, 17],
  [23, 70, 1],
  [5, 4099, 4],
] as const) {
  test(`softmax with centering ${rows} x ${columns}, ${count ?? 'all'} used`, async (t) => {
    const start = noise(columns, 4).map((value) => 0.1 * value);
    const logits = noise((rows + 2) * columns, 3);
    const used = logits.subarray(columns, columns * (1 + (count ?? rows)));
    logits.fill(Number.NaN, columns + used.length, columns * (1 + rows));
    let center = await centerOf(start);
    const setting = { logits, columns, temperature: 0.05, rowStart: 1, rows, count };
    const targets = await targetsOf(t, setting, (graph, options) => softmaxCenter(graph, { ...options, center }));
    const got = targets.subarray(columns, columns + used.length);
    allClose(t, got, oracle.softmaxCenter(used, start, 0.05), 'targets', PROBABILITIES);
    const padding = targets.subarray(columns + used.length, columns * (1 + rows));
    t.ok(
      padding.every((value) => value === 0),
      'the rows beyond the count are zeros',
    );

    center = await centerOf(start);
    const program = new Program(await testGpu(), 'center');
    const input = program.input('logits', [rows + 2, columns]);
    program.write(input, logits);
    const countTensor = count === undefined ? undefined : program.constant('count', [1], Uint32Array.of(count));
    const options = { logits: input, rowStart: 1, rows, count: countTensor, center };
    updateCenter(new Graph(program), options);
    await program.compile({ guard: true });
    program.run();
    allClose(t, await program.read(center), oracle.updateCenter(used, start), 'center', { absolute: 1e-6 });
    program.dispose();
  });
}

test('a step without a used row leaves the center as it is', async (t) => {
  const start = noise(45, 4);
  const center = await centerOf(start);
  const program = new Program(await testGpu(), 'center without rows');
  const logits = program.constant('logits', [6, 45], noise(6 * 45, 2));
  const count = program.constant('count', [1], Uint32Array.of(0));
  updateCenter(new Graph(program), { logits, rowStart: 0, rows: 6, count, center });
  await program.compile();
  program.run();
  sameBits(t, await program.read(center), start, 'the same bits');
  program.dispose();
});

test('teacher targets refuse rows that are not there', async (t) => {
  const program = new Program(await testGpu(), 'targets refused');
  const graph = new Graph(program);
  const logits = program.input('logits', [6, 8]);
  const temperature = program.input('temperature', [1]);
  const into = program.intermediate('targets', [6, 8]);
  const options = { logits, temperature, into, rowStart: 0, rows: 6 };
  t.throws(() => sinkhornKnopp(graph, { ...options, rowStart: 1 }), /logits \[6,8\] have no rows 1 to 6/);
  t.throws(() => sinkhornKnopp(graph, { ...options, iterations: 0 }), /at least 1/);
  const narrow = program.intermediate('narrow', [6, 7]);
  t.throws(() => sinkhornKnopp(graph, { ...options, into: narrow }), /targets \[6,7\] have no place/);
  t.throws(() => softmaxCenter(graph, { ...options, center: temperature }), /center \[1\]/);
});
