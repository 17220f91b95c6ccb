import test, { type Test } from 'tape';
import { Program } from '../../src/gpu/program.js';
import type { Storage } from '../../src/gpu/tensor.js';
import { goldenImage } from '../../src/io/golden_hash.js';
import { crossEntropyTile } from '../../src/tensor/cross_entropy.js';
import { sumOfViews } from '../../src/tensor/prototype_loss.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { COMPONENT_CASES, componentGoldens, GOLDEN_TOLERANCE, NO_GOLDENS } from '../oracle/component_goldens.js';
import * as oracle from '../oracle/cross_entropy.js';
import { softmaxCenter } from '../oracle/teacher_targets.js';

const TEMPERATURE = 0.1;

/** Rows of probabilities. */
function probabilities(rows: number, columns: number, seed: number): Float32Array {
  const targets = softmaxCenter(noise(rows * columns, seed), new Float32Array(columns), 0.3);
  return Float32Array.from(targets);
}

interface Setting {
  readonly student: Float32Array;
  readonly columns: number;
  readonly targets: Float32Array;
  readonly targetShift?: number;
  /** Of all rows; those of the tile begin at `before`. */
  readonly weights: Float32Array;
  readonly before?: number;
  readonly upstream?: number;
  readonly gradient?: Storage;
}

/** Row losses of the tile, and the gradient, twice under guard. */
async function lossAndGradient(t: Test, setting: Setting): Promise<[Float32Array, Float32Array]> {
  const { student, columns, targets, targetShift, weights, before = 0, gradient = 'f32' } = setting;
  const program = new Program(await testGpu(), 'cross-entropy');
  const rows = student.length / columns;
  const loss = program.keep(program.intermediate('loss', [weights.length]));
  const dlogits = program.keep(program.intermediate('d_logits', [rows, columns], gradient));
  const tile = {
    logits: program.constant('student', [rows, columns], student),
    targets: program.constant('targets', [targets.length / columns, columns], targets),
    targetShift,
    weights: program.constant('weights', [weights.length], weights),
    before,
    temperature: TEMPERATURE,
  };
  const upstream = program.constant('upstream', [2], Float32Array.of(99, setting.upstream ?? 1));
  crossEntropyTile(program, { ...tile, loss, gradient: { upstream, term: 1, into: dlogits } });
  const alone = program.keep(program.intermediate('loss alone', [weights.length]));
  crossEntropyTile(program, { ...tile, loss: alone });
  await program.compile({ guard: true });
  program.run();
  const [value, slope] = await program.readAll([loss, dlogits]);
  program.run();
  const again = await program.readAll([loss, dlogits, alone]);
  sameBits(t, value, again[0], 'losses: the same bits twice');
  sameBits(t, slope, again[1], 'gradient: the same bits twice');
  sameBits(t, value, again[2], 'losses without gradient: the same bits');
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
  return [value.subarray(before, before + rows) as Float32Array, slope as Float32Array];
}

const Z = [0.1, 0.2, -0.3, 0.05, 0, 0.4, 0.1, -0.2, 0.3, -0.1, 0.2, 0];
const S = Float32Array.of(0.2, 0.1, 0, -0.1, 0.05, 0.3, -0.2, 0.1, 0, 0.1, 0.2, 0.3);

test('cross-entropy, golden numbers of the specification', async (t) => {
  const targets = Float32Array.from(softmaxCenter(Z, [0, 0, 0, 0], 0.05));
  const golden = [1.410054, 0.215461, 3.195545];
  const common = { student: S, columns: 4, targets };
  const ones = { ...common, weights: new Float32Array(3).fill(1) };
  const exact = oracle.crossEntropyRows({ ...ones, temperature: TEMPERATURE });
  allClose(t, exact, golden, 'the oracle, row by row', { absolute: 1e-6, relative: 0 });
  const [rows] = await lossAndGradient(t, ones);
  allClose(t, rows, golden, 'row by row', { absolute: 3e-6, relative: 0 });
  // The three rows as the masked patches of three images with masks 1100, 0010 and 0000.
  const [masked] = await lossAndGradient(t, { ...common, weights: Float32Array.of(1 / 6, 1 / 6, 1 / 3) });
  const sum = masked.reduce((a, b) => a + b, 0);
  allClose(t, [sum], [1.336101], 'the masked form', { absolute: 3e-6, relative: 0 });
});

for (const [rows, columns, targetRows, targetShift] of [
  [1, 4, 1, 0],
  [1, 40, 1, 0],
  [7, 260, 4, 0],
  [8, 64, 8, 4],
  [50, 1032, 50, 0],
  [261, 36, 29, 27],
  [3, 4100, 2, 1],
]) {
  test(`cross-entropy ${rows} x ${columns}, ${targetRows} target rows`, async (t) => {
    const targets = probabilities(targetRows, columns, 2).map((value) => 2 * value);
    const before = 5;
    const weights = noise(before + rows + 2, 3).map((value) => 0.5 + 0.4 * value);
    const student = noise(rows * columns, 1);
    const exact = {
      student,
      columns,
      targets: Float32Array.from(
        { length: rows * columns },
        (_, i) => targets[((Math.floor(i / columns) + targetShift) % targetRows) * columns + (i % columns)],
      ),
      weights: weights.subarray(before, before + rows),
      temperature: TEMPERATURE,
    };
    const setting = { student, columns, targets, targetShift, weights, before, upstream: 3 };
    const expected = oracle.crossEntropyGradient(exact).map((value) => 3 * value);
    for (const gradient of ['f32', 'f16'] as const) {
      const [loss, slope] = await lossAndGradient(t, { ...setting, gradient });
      allClose(t, loss, oracle.crossEntropyRows(exact), `${gradient}: losses`);
      allClose(t, slope, expected, `${gradient}: gradient`, {
        absolute: 1e-6,
        relative: gradient === 'f32' ? 1e-5 : 1e-3,
      });
    }
  });
}

test('cross-entropy of padding: exactly zero, whatever the rows hold', async (t) => {
  const columns = 72;
  const [rows, used] = [6, 3];
  const student = noise(rows * columns, 1);
  student.fill(Number.NaN, 3 * columns, 4 * columns);
  student.fill(3e38, 4 * columns, 5 * columns);
  student.fill(Number.NEGATIVE_INFINITY, 5 * columns);
  const setting = {
    student,
    columns,
    targets: probabilities(3, columns, 2),
    weights: Float32Array.of(0.5, 0.25, 1, 0, 0, 0),
  };
  const [loss, gradient] = await lossAndGradient(t, setting);
  const [clean, cleanGradient] = await lossAndGradient(t, {
    ...setting,
    student: student.slice(0, used * columns),
    weights: setting.weights.slice(0, used),
  });
  t.deepEqual([...loss], [...clean, 0, 0, 0], 'the losses of the used rows have the same bits, the others are 0');
  t.deepEqual(gradient.slice(0, used * columns), cleanGradient, 'so has the gradient of the used rows');
  t.ok(
    gradient.slice(used * columns).every((value) => value === 0),
    'the gradient of padding is 0',
  );
});

test('cross-entropy against targets of zeros: no loss, no gradient', async (t) => {
  const [loss, gradient] = await lossAndGradient(t, {
    student: noise(2 * 12, 1),
    columns: 12,
    targets: new Float32Array(2 * 12),
    weights: Float32Array.of(1, 1),
  });
  t.ok(loss.every((value) => value === 0) && gradient.every((value) => value === 0));
});

test('cross-entropy of logits that would overflow', async (t) => {
  const columns = 300;
  const student = noise(2 * columns, 6).map((value) => 200 * value);
  const exact = { student, columns, targets: probabilities(2, columns, 7), weights: Float32Array.of(1, 1) };
  const [loss] = await lossAndGradient(t, exact);
  const expected = oracle.crossEntropyRows({ ...exact, temperature: TEMPERATURE });
  allClose(t, loss, expected, 'the losses', { absolute: 0, relative: 1e-5 });
});

for (const name of COMPONENT_CASES) {
  test(`cross-entropy against the reference, ${name}`, async (t) => {
    const goldens = componentGoldens(name);
    if (!goldens) {
      t.skip(NO_GOLDENS);
      return;
    }
    const { B, K, expected } = goldens;
    // Each of two student chunks against both halves of the targets, means over the half batch, all summed.
    const program = new Program(await testGpu(), 'views');
    const views = program.keep(sumOfViews(program, program.constant('targets', [B, K], expected('sk.out'))));
    await program.compile();
    program.run();
    const targets = (await program.read(views)) as Float32Array;
    program.dispose();
    const [loss, gradient] = await lossAndGradient(t, {
      student: goldenImage('loss.student', [B, K]).map((value) => 0.5 * value),
      columns: K,
      targets,
      weights: new Float32Array(B).fill(2 / B),
    });
    allClose(t, [loss.reduce((a, b) => a + b, 0)], expected('dino.loss'), 'loss', GOLDEN_TOLERANCE);
    allClose(t, gradient, expected('dino.grad'), 'gradient', { absolute: 1e-6, relative: 1e-4 });
  });
}

test('cross-entropy refuses shapes that do not fit', async (t) => {
  const program = new Program(await testGpu(), 'cross-entropy refused');
  const options = {
    logits: program.input('student', [3, 8]),
    targets: program.input('targets', [2, 8]),
    weights: program.input('weights', [4]),
    loss: program.intermediate('loss', [4]),
    before: 1,
    temperature: TEMPERATURE,
  };
  const refused = (change: Partial<typeof options>, message: RegExp): void => {
    t.throws(() => crossEntropyTile(program, { ...options, ...change }), message);
  };
  refused({ targets: program.input('other', [2, 12]) }, /student \[3,8\] and targets \[2,12\]/);
  refused({ before: 2 }, /weights \[4\] and losses \[4\] must hold rows 2 to 4/);
  const ragged = { logits: program.input('ragged', [3, 7]), targets: program.input('ragged targets', [2, 7]) };
  refused(ragged, /multiple of 4/);
});
