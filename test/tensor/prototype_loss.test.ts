import test from 'tape';
import * as sumPartials from '../../kernels/sum_partials.js';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { Graph } from '../../src/tensor/graph.js';
import { prototypeLogits } from '../../src/tensor/prototype_logits.js';
import { prototypeLoss, sumOfViews } from '../../src/tensor/prototype_loss.js';
import { putRows, rowTiles, takeRows, tileRowsWithin } from '../../src/tensor/row_tiles.js';
import { sinkhornKnopp, type TeacherTargets } from '../../src/tensor/teacher_targets.js';
import { allClose, checkOperator, noise, sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/cross_entropy.js';
import { softmaxCenter } from '../oracle/teacher_targets.js';

const TEMPERATURE = 0.1;

test('tiles of rows', (t) => {
  t.deepEqual(
    [tileRowsWithin(64 * 2 ** 20, 65536), tileRowsWithin(4 * 7 * 100, 100), tileRowsWithin(4 * 3 * 100, 100)],
    [256, 4, 3],
    'multiples of four where four fit',
  );
  t.equal(tileRowsWithin(1, 100), 1, 'never none');
  t.deepEqual(rowTiles(10, 4), [
    { from: 0, rows: 4 },
    { from: 4, rows: 4 },
    { from: 8, rows: 2 },
  ]);
  t.end();
});

test('rows are taken and put whether or not they begin where a tensor may', async (t) => {
  for (const [columns, dtype] of [
    [64, 'f32'],
    [12, 'f32'],
    [12, 'f16'],
    [9, 'f32'],
  ] as const) {
    const program = new Program(await testGpu(), 'rows');
    const data = Float32Array.from({ length: 11 * columns }, (_, i) => i);
    const x = program.input('x', [11, columns], dtype);
    program.write(x, data);
    const y = program.keep(program.intermediate('y', [11, columns], dtype));
    for (const tile of rowTiles(11, 4)) {
      putRows(program, y, tile, (into) => {
        const plan = sumPartials.plan({ parts: 1, elements: into.elements, result: into.storage });
        program.dispatch(plan, [takeRows(program, program.constant('data', x.shape, data), tile), into]);
      });
    }
    const taken = program.keep(takeRows(program, x, { from: 4, rows: 5 }));
    await program.compile({ guard: true });
    program.run();
    t.deepEqual(await program.read(y), data, `put ${columns} columns, ${dtype}`);
    const expected = data.subarray(4 * columns, 9 * columns);
    if (taken.kind === 'intermediate')
      t.deepEqual(await program.read(taken), expected, `taken ${columns} columns, ${dtype}`);
    else t.equal(taken.baseOffsetBytes % 256, 0, `${columns} columns, ${dtype}: a view`);
    t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
    program.dispose();
  }
});

/** Rows of probabilities. */
function probabilities(rows: number, columns: number, seed: number): Float32Array {
  return Float32Array.from(softmaxCenter(noise(rows * columns, seed), new Float32Array(columns), 0.3));
}

/** Rows of length one. */
function unitRows(rows: number, width: number, seed: number): Float32Array {
  const x = noise(rows * width, seed);
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * width, (r + 1) * width);
    const length = Math.hypot(...row);
    for (let i = 0; i < width; i++) row[i] /= length;
  }
  return x;
}

/** Targets that are there already, handed out by tiles. */
function givenTargets(program: Program, matrix: Tensor, tileRows: number): TeacherTargets {
  const { rows, columns } = matrix;
  return { rows, columns, tiles: rowTiles(rows, tileRows), at: (tile) => takeRows(program, matrix, tile) };
}

for (const [batch, locals, patches, prototypes, width, tileRows] of [
  [2, 2, 3, 8, 8, 1],
  [3, 9, 21, 96, 32, 4],
  [3, 9, 21, 96, 32, 64],
  [2, 4, 9, 1028, 64, 4],
]) {
  const rows = locals + 2 * batch + patches;
  test(`prototype loss of ${rows} rows, ${prototypes} prototypes, in tiles of ${tileRows}`, async (t) => {
    const cls = probabilities(2 * batch, prototypes, 2);
    const ofPatches = probabilities(patches, prototypes, 3);
    const weights = noise(rows, 4).map((value) => 0.5 + 0.4 * value);
    // The last patches are padding.
    weights.fill(0, rows - 2);
    const row = (matrix: Float32Array, r: number): Float32Array =>
      matrix.subarray(r * prototypes, (r + 1) * prototypes);
    const targets = [
      ...Array.from({ length: locals }, (_, r) =>
        row(cls, r % batch).map((p, k) => p + row(cls, batch + (r % batch))[k]),
      ),
      ...Array.from({ length: 2 * batch }, (_, r) => row(cls, (r + batch) % (2 * batch))),
      ...Array.from({ length: patches }, (_, r) => row(ofPatches, r)),
    ].flatMap((values) => [...values]);
    await checkOperator(t, {
      name: 'prototype loss',
      hardwareToo: true,
      half: { gradient: { absolute: 2e-3, relative: 4e-3 } },
      inputs: {
        features: { shape: [rows, width], data: unitRows(rows, width, 1) },
        weight: { shape: [prototypes, width], data: unitRows(prototypes, width, 5), weight: true },
      },
      build: (graph, { features, weight }, upstream) => {
        const { program } = graph;
        const matrix = program.constant('cls targets', [2 * batch, prototypes], cls);
        const patchTargets = program.constant('patch targets', [patches, prototypes], ofPatches);
        return prototypeLoss(graph, {
          features,
          weight,
          weights: program.constant('weights', [rows], weights),
          terms: [
            { name: 'local', rows: locals, targets: { matrix: sumOfViews(program, matrix), shift: 0 } },
            { name: 'global', rows: 2 * batch, targets: { matrix, shift: batch } },
            { name: 'patches', rows: patches, targets: givenTargets(program, patchTargets, tileRows) },
          ],
          temperature: TEMPERATURE,
          upstream: upstream(),
          tileBytes: 4 * prototypes * tileRows,
        });
      },
      oracle: ({ features, weight }) =>
        oracle.prototypeLoss({
          features,
          weight,
          width,
          columns: prototypes,
          targets,
          weights,
          temperature: TEMPERATURE,
          termRows: [locals, 2 * batch, patches],
        }),
    });
  });
}

/** Teacher by Sinkhorn-Knopp and student, from features to gradients. */
async function lossOf(tileBytes: number | undefined, followed = true) {
  const [rows, prototypes, width] = [50, 264, 16];
  const program = new Program(await testGpu(), 'teacher and student');
  const graph = new Graph(program);
  const unit = (name: string, count: number, seed: number): Tensor =>
    program.constant(name, [count, width], unitRows(count, width, seed));
  const [features, weight] = [unit('features', rows, 1), unit('weight', prototypes, 2)];
  features.requiresGrad = followed;
  weight.requiresGrad = followed;
  const targets = sinkhornKnopp(program, {
    logits: prototypeLogits(program, {
      features: unit('teacher features', 60, 3),
      weight: unit('teacher weight', prototypes, 4),
      range: { from: 7, rows },
      tileBytes,
    }),
    temperature: program.constant('temperature', [1], Float32Array.of(0.06)),
    count: program.constant('count', [1], Uint32Array.of(45)),
  });
  const upstream = program.constant('upstream', [1], Float32Array.of(2));
  const loss = prototypeLoss(graph, {
    features,
    weight,
    weights: program.constant('weights', [rows], new Float32Array(rows).fill(1 / 45).fill(0, 45)),
    terms: [{ name: 'ibot', rows, targets }],
    temperature: TEMPERATURE,
    upstream,
    tileBytes,
  });
  graph.backward([[loss, upstream]]);
  const kept = [loss];
  if (followed) kept.push(graph.gradientOf(features)!, graph.gradientOf(weight)!);
  for (const tensor of kept) program.keep(tensor);
  await program.compile({ guard: true });
  program.run();
  const results = await program.readAll(kept);
  const guards = await program.checkGuards();
  const { dispatches } = program.cost;
  program.dispose();
  return { results, guards, dispatches };
}

test('many tiles and one tile are the same loss', async (t) => {
  const whole = await lossOf(undefined);
  const tiled = await lossOf(4 * 264 * 8);
  t.ok(tiled.dispatches > 3 * whole.dispatches, `${tiled.dispatches} dispatches instead of ${whole.dispatches}`);
  ['loss', 'gradient of the features', 'gradient of the weight'].forEach((what, i) => {
    allClose(t, tiled.results[i], whole.results[i], what, { absolute: 0, relative: 1e-5 });
  });
  const alone = await lossOf(4 * 264 * 8, false);
  sameBits(t, alone.results[0], tiled.results[0], 'without gradient, the same loss');
  for (const { guards } of [whole, tiled, alone]) t.deepEqual(guards, [], 'nothing written past a tensor');
});

test('the prototype loss refuses what does not fit', async (t) => {
  const program = new Program(await testGpu(), 'prototype loss refused');
  const graph = new Graph(program);
  const matrix = program.input('targets', [2, 8]);
  const options = {
    features: program.input('features', [3, 4]),
    weight: program.input('weight', [8, 4]),
    weights: program.input('weights', [3]),
    terms: [{ name: 'dino', rows: 3, targets: { matrix, shift: 0 } }],
    temperature: TEMPERATURE,
    upstream: program.input('upstream', [1]),
  };
  const refused = (change: object, message: RegExp): void => {
    t.throws(() => prototypeLoss(graph, { ...options, ...change }), message);
  };
  const term = options.terms[0];
  refused({ weight: program.input('wide', [8, 12]) }, /features \[3,4\] do not fit the last layer \[8,12\]/);
  refused({ weights: program.input('one weight', [1]) }, /weights \[1\]/);
  refused({ terms: [{ ...term, rows: 2 }] }, /\(dino 2\) must cover the 3 student rows/);
  refused({ upstream: program.input('two', [2]) }, /upstream \[2\]/);
  const other = program.input('other targets', [2, 12]);
  refused({ terms: [{ ...term, targets: { matrix: other, shift: 0 } }] }, /targets \[2,12\] of dino/);
  const targets = givenTargets(program, matrix, 1);
  refused({ terms: [{ ...term, targets }] }, /targets \[2, 8\] of dino do not fit logits \[3, 8\]/);
});
