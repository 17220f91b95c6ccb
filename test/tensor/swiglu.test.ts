import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { swiglu } from '../../src/tensor/swiglu.js';
import { checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/tokens.js';

for (const [rows, hidden] of [
  [1, 4],
  [50, 24],
  [257, 40],
]) {
  test(`swiglu ${rows} x ${hidden}`, async (t) => {
    await checkOperator(t, {
      name: `swiglu ${rows}x${hidden}`,
      inputs: { x: { shape: [rows, 2 * hidden], data: noise(2 * rows * hidden, 1).map((v) => 4 * v) } },
      build: (graph, { x }) => swiglu(graph, x),
      oracle: ({ x }) => oracle.swiglu(x, hidden),
      half: true,
    });
  });
}

test('swiglu refuses halves of a row that are no whole quads', async (t) => {
  const program = new Program(await testGpu(), 'swiglu refused');
  const x = program.input('x', [5, 12]);
  t.throws(() => swiglu(new Graph(program), x), /swiglu: rows of 6 values; activations need a multiple of 4/);
});
