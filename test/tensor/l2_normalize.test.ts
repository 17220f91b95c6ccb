import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { l2Normalize } from '../../src/tensor/l2_normalize.js';
import { checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/l2_normalize.js';

for (const [rows, columns] of [
  [1, 8],
  [50, 24],
  [257, 64],
  [7, 260],
  [3, 1536],
]) {
  test(`l2 normalize ${rows} x ${columns}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `l2_normalize ${rows}x${columns}`,
      inputs: { x: { shape: [rows, columns], data: noise(rows * columns, 1) } },
      build: (graph, { x }) => l2Normalize(graph, x),
      oracle: ({ x }) => oracle.l2Normalize(x, columns),
      half: true,
    });
  });
}

test('l2 normalize of a range of rows: the others get no gradient', async (t) => {
  await checkOperator(t, {
    hardwareToo: true,
    name: 'l2_normalize range',
    inputs: { x: { shape: [19, 36], data: noise(19 * 36, 2) } },
    build: (graph, { x }) => l2Normalize(graph, x, 1e-8, { rowStart: 4, rows: 9 }),
    oracle: ({ x }) => oracle.l2Normalize(x, 36, 1e-8, 4, 9),
    half: true,
  });
});

test('l2 normalize of a row of zeros and of rows below epsilon', async (t) => {
  const x = noise(5 * 12, 3);
  x.fill(0, 12, 24);
  for (let c = 24; c < 36; c++) x[c] *= 1e-3;
  await checkOperator(t, {
    hardwareToo: true,
    name: 'l2_normalize clamped',
    inputs: { x: { shape: [5, 12], data: x } },
    build: (graph, { x }) => l2Normalize(graph, x, 0.125),
    oracle: ({ x }) => oracle.l2Normalize(x, 12, 0.125),
    half: true,
  });
});

test('l2 normalize of halves into float32, whose gradient is float32', async (t) => {
  await checkOperator(t, {
    hardwareToo: true,
    name: 'l2_normalize to f32',
    inputs: { x: { shape: [50, 24], data: noise(50 * 24, 5) } },
    build: (graph, { x }) => l2Normalize(graph, x, 1e-12, undefined, 'f32'),
    oracle: ({ x }) => oracle.l2Normalize(x, 24),
    half: { forward: { absolute: 1e-6 } },
  });
});

test('l2 normalize refuses rows that are not there', async (t) => {
  const program = new Program(await testGpu(), 'l2_normalize refused');
  const x = program.input('x', [5, 12]);
  const range = { rowStart: 3, rows: 3 };
  t.throws(() => l2Normalize(new Graph(program), x, 1e-12, range), /x \[5,12\] has no rows 3 to 5/);
  const odd = program.input('odd', [5, 261]);
  t.throws(() => l2Normalize(new Graph(program), odd), /l2_normalize: rows of 261 values/);
});
