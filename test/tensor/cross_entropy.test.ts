import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { goldenImage } from '../../src/io/golden_hash.js';
import { type CrossEntropyTerm, crossEntropy } from '../../src/tensor/cross_entropy.js';
import { Graph } from '../../src/tensor/graph.js';
import { NO_ROW } from '../../src/tensor/rows.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
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
  readonly pairs: Uint32Array;
  readonly weights: Float32Array;
  readonly terms: readonly CrossEntropyTerm[];
}

/** Records the operator over `student` as a followed input. */
function record(graph: Graph, setting: Setting) {
  const { program } = graph;
  const rows = setting.weights.length;
  const student = program.input('student', [rows, setting.columns]);
  student.requiresGrad = true;
  program.write(student, setting.student);
  const targetRows = setting.targets.length / setting.columns;
  const loss = crossEntropy(graph, {
    student,
    targets: program.constant('targets', [targetRows, setting.columns], setting.targets),
    pairs: program.constant('pairs', [rows, setting.pairs.length / rows], setting.pairs),
    weights: program.constant('weights', [rows], setting.weights),
    temperature: TEMPERATURE,
    terms: setting.terms,
  });
  return { student, loss };
}

/** Loss and gradient of the student, with an upstream gradient of 1 for each term. */
async function lossAndGradient(setting: Setting): Promise<[Float32Array, Float32Array]> {
  const program = new Program(await testGpu(), 'cross-entropy');
  const graph = new Graph(program);
  const { student, loss } = record(graph, setting);
  graph.backward([[program.keep(loss), program.constant('seed', loss.shape, new Float32Array(loss.elements).fill(1))]]);
  const gradient = program.keep(graph.gradientOf(student)!);
  await program.compile({ guard: true });
  program.run();
  const [value, dstudent] = await program.readAll([loss, gradient]);
  program.dispose();
  return [value as Float32Array, dstudent as Float32Array];
}

const Z = [0.1, 0.2, -0.3, 0.05, 0, 0.4, 0.1, -0.2, 0.3, -0.1, 0.2, 0];
const S = Float32Array.of(0.2, 0.1, 0, -0.1, 0.05, 0.3, -0.2, 0.1, 0, 0.1, 0.2, 0.3);

test('cross-entropy, golden numbers of the specification', async (t) => {
  const targets = Float32Array.from(softmaxCenter(Z, [0, 0, 0, 0], 0.05));
  const rows = [0, 1, 2].map((r) =>
    oracle.crossEntropyOfRow(targets.subarray(4 * r, 4 * r + 4), S.subarray(4 * r, 4 * r + 4), TEMPERATURE),
  );
  allClose(t, rows, [1.410054, 0.215461, 3.195545], 'the oracle, row by row', { absolute: 1e-6, relative: 0 });
  const pairs = Uint32Array.of(0, 1, 2);
  const common = { student: S, columns: 4, targets, pairs };
  const third = new Float32Array(3).fill(1 / 3);
  const [dino] = await lossAndGradient({ ...common, weights: third, terms: [{ name: 'dino', rows: 3 }] });
  allClose(t, dino, [1.60702], 'the mean over the batch', { absolute: 3e-6, relative: 0 });
  // The three rows as the masked patches of three images with masks 1100, 0010 and 0000.
  const weights = Float32Array.of(1 / 6, 1 / 6, 1 / 3);
  const [ibot] = await lossAndGradient({ ...common, weights, terms: [{ name: 'ibot', rows: 3 }] });
  allClose(t, ibot, [1.336101], 'the masked form', { absolute: 3e-6, relative: 0 });
});

for (const [rows, columns, pairsPerRow] of [
  [1, 1, 1],
  [1, 40, 1],
  [7, 257, 2],
  [9, 64, 2],
  [5, 1030, 1],
  [3, 4099, 2],
]) {
  test(`cross-entropy ${rows} x ${columns}, ${pairsPerRow} target rows`, async (t) => {
    const targetRows = 4;
    const targets = probabilities(targetRows, columns, 2);
    const pairs = Uint32Array.from({ length: rows * pairsPerRow }, (_, i) => (i * 5 + 1) % targetRows);
    const weights = noise(rows, 3).map((value) => 0.5 + 0.4 * value);
    const termRows = rows > 1 ? [1, rows - 2, 1] : [1];
    if (pairsPerRow === 2) pairs[1] = NO_ROW;
    await checkOperator(t, {
      name: `cross_entropy ${rows}x${columns}`,
      inputs: {
        student: { shape: [rows, columns], data: noise(rows * columns, 1) },
        targets: { shape: [targetRows, columns], data: targets, constant: true },
        weights: { shape: [rows], data: weights, constant: true },
      },
      build: (graph, inputs) =>
        crossEntropy(graph, {
          student: inputs.student,
          targets: inputs.targets,
          weights: inputs.weights,
          pairs: graph.program.constant('pairs', [rows, pairsPerRow], pairs),
          temperature: TEMPERATURE,
          terms: termRows.map((count, i) => ({ name: `term ${i}`, rows: count })),
        }),
      oracle: (inputs) =>
        oracle.crossEntropy({
          student: inputs.student,
          targets: inputs.targets,
          weights: inputs.weights,
          columns,
          pairs,
          temperature: TEMPERATURE,
          termRows,
        }),
    });
  });
}

test('cross-entropy of padding: exactly zero, whatever the rows hold', async (t) => {
  const columns = 70;
  const [rows, used] = [6, 3];
  const student = noise(rows * columns, 1);
  student.fill(Number.NaN, 3 * columns, 4 * columns);
  student.fill(3e38, 4 * columns, 5 * columns);
  student.fill(Number.NEGATIVE_INFINITY, 5 * columns);
  const setting = {
    student,
    columns,
    targets: probabilities(3, columns, 2),
    // Row 5 has a weight but no target row.
    pairs: Uint32Array.of(0, 1, 2, 0, 1, NO_ROW),
    weights: Float32Array.of(0.5, 0.25, 1, 0, 0, 1),
    terms: [
      { name: 'all', rows: 5 },
      { name: 'without a target', rows: 1 },
    ],
  };
  const [loss, gradient] = await lossAndGradient(setting);
  const [clean, cleanGradient] = await lossAndGradient({
    ...setting,
    student: student.slice(0, used * columns),
    pairs: setting.pairs.slice(0, used),
    weights: setting.weights.slice(0, used),
    terms: [{ name: 'all', rows: used }],
  });
  t.equal(loss[0], clean[0], 'the padded loss has the bits of the loss without padding');
  t.equal(loss[1], 0, 'a term without targets is 0');
  t.deepEqual(gradient.slice(0, used * columns), cleanGradient, 'so has the gradient of the used rows');
  t.ok(
    gradient.slice(used * columns).every((value) => value === 0),
    'the gradient of padding is 0',
  );
});

test('cross-entropy of logits that would overflow', async (t) => {
  const columns = 300;
  const student = noise(2 * columns, 6).map((value) => 200 * value);
  const targets = probabilities(2, columns, 7);
  const [loss] = await lossAndGradient({
    student,
    columns,
    targets,
    pairs: Uint32Array.of(0, 1),
    weights: Float32Array.of(1, 1),
    terms: [{ name: 'large', rows: 2 }],
  });
  const expected = [0, 1].reduce((sum, r) => {
    const row = (values: Float32Array) => values.subarray(r * columns, (r + 1) * columns);
    return sum + oracle.crossEntropyOfRow(row(targets), row(student), TEMPERATURE);
  }, 0);
  allClose(t, loss, [expected], 'the loss', { absolute: 0, relative: 1e-5 });
});

for (const name of COMPONENT_CASES) {
  test(`cross-entropy against the reference, ${name}`, async (t) => {
    const goldens = componentGoldens(name);
    if (!goldens) {
      t.skip(NO_GOLDENS);
      return;
    }
    const { B, K, expected } = goldens;
    const half = B / 2;
    // Each of two student chunks against both halves of the targets, means over the half batch, all summed.
    const [loss, gradient] = await lossAndGradient({
      student: goldenImage('loss.student', [B, K]).map((value) => 0.5 * value),
      columns: K,
      targets: expected('sk.out'),
      pairs: Uint32Array.from({ length: 2 * B }, (_, i) => ((i >> 1) % half) + (i % 2) * half),
      weights: new Float32Array(B).fill(1 / half),
      terms: [{ name: 'dino', rows: B }],
    });
    allClose(t, loss, expected('dino.loss'), 'loss', GOLDEN_TOLERANCE);
    const dino = expected('dino.grad');
    allClose(t, gradient, dino, 'gradient', { absolute: 1e-6, relative: 1e-4 });
  });
}

test('cross-entropy refuses shapes that do not fit', async (t) => {
  const program = new Program(await testGpu(), 'cross-entropy refused');
  const graph = new Graph(program);
  const options = {
    student: program.input('student', [3, 8]),
    targets: program.input('targets', [2, 8]),
    pairs: program.input('pairs', [3, 1], 'u32'),
    weights: program.input('weights', [3]),
    temperature: TEMPERATURE,
    terms: [{ name: 'dino', rows: 3 }],
  };
  const refused = (change: Partial<typeof options>, message: RegExp): void => {
    t.throws(() => crossEntropy(graph, { ...options, ...change }), message);
  };
  refused({ targets: program.input('other', [2, 9]) }, /student \[3,8\] and targets \[2,9\]/);
  refused({ pairs: program.input('one pair', [1, 1], 'u32') }, /pairs must be u32 \[3, P\]/);
  refused({ weights: program.input('weight', [1]) }, /weights \[1\]/);
  refused({ terms: [{ name: 'dino', rows: 2 }] }, /\(dino 2\) must cover the 3 student rows/);
});
