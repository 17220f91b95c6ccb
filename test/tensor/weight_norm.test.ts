import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { weightNorm } from '../../src/tensor/weight_norm.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/weight_norm.js';

for (const [rows, columns] of [
  [1, 8],
  [40, 12],
  [257, 52],
  [13, 256],
  [5, 384],
]) {
  test(`weight norm ${rows} x ${columns}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `weight_norm ${rows}x${columns}`,
      inputs: {
        v: { shape: [rows, columns], data: noise(rows * columns, 1), weight: true },
        g: { shape: [rows, 1], data: noise(rows, 2).map((value) => 1 + 0.5 * value), weight: true },
      },
      build: (graph, { v, g }) => weightNorm(graph, v, g),
      oracle: ({ v, g }) => oracle.weightNorm(v, g, columns),
      half: true,
    });
  });
}

test('weight norm with a frozen parameter', async (t) => {
  for (const frozen of ['v', 'g']) {
    await checkOperator(t, {
      hardwareToo: true,
      name: `weight_norm, ${frozen} frozen`,
      inputs: {
        v: { shape: [21, 28], data: noise(588, 1), constant: frozen === 'v' },
        g: { shape: [21, 1], data: noise(21, 2), constant: frozen === 'g' },
      },
      build: (graph, { v, g }) => weightNorm(graph, v, g),
      oracle: ({ v, g }) => oracle.weightNorm(v, g, 28),
    });
  }
});

test('weight norm of a row of zeros is zero, forward and backward', async (t) => {
  const program = new Program(await testGpu(), 'weight norm of zeros');
  const graph = new Graph(program);
  const v = program.input('v', [3, 12]);
  const g = program.input('g', [3, 1]);
  v.requiresGrad = true;
  g.requiresGrad = true;
  const data = noise(36, 4);
  data.fill(0, 12, 24);
  program.write(v, data);
  program.write(g, Float32Array.of(1, 2, 3));
  const w = program.keep(weightNorm(graph, v, g));
  graph.backward([[w, program.constant('seed', [3, 12], noise(36, 5))]]);
  const gradients = [v, g].map((parameter) => program.keep(graph.gradientOf(parameter)!));
  await program.compile({ guard: true });
  program.run();
  const [values, dv, dg] = await program.readAll([w, ...gradients]);
  allClose(t, values.slice(12, 24), new Float32Array(12), 'the row', { absolute: 0, relative: 0 });
  allClose(t, dv.slice(12, 24), new Float32Array(12), 'its gradient', { absolute: 0, relative: 0 });
  t.equal(dg[1], 0, 'the gradient of its length');
  program.dispose();
});
