import test from 'tape';
import { GpuError } from '../../src/errors.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { tokenMeans } from '../../src/tensor/token_means.js';
import { checkOperator, noise, testGpu } from '../fixture.js';

test('tokenMeans: the mean of the patches, without CLS and registers', async (t) => {
  for (const [count, length, first, columns] of [
    [3, 261, 5, 52],
    [5, 2, 1, 260],
    [1, 17, 1, 64],
    [2, 50, 1, 132],
  ]) {
    await checkOperator(t, {
      name: `tokenMeans [${count}, ${length}, ${columns}] from ${first}`,
      inputs: { x: { shape: [count * length, columns], data: noise(count * length * columns, 5), constant: true } },
      build: (graph, { x }) => tokenMeans(graph, x, { count, length }, first),
      oracle: ({ x }) =>
        Float64Array.from({ length: count * columns }, (_, i) => {
          const [s, c] = [Math.floor(i / columns), i % columns];
          let sum = 0;
          for (let p = first; p < length; p++) sum += x[(s * length + p) * columns + c];
          return sum / (length - first);
        }),
      half: true,
      hardwareToo: true,
    });
  }
});

test('tokenMeans: refuses what it cannot do', async (t) => {
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const x = graph.program.input('x', [4, 8]);
  t.throws(() => tokenMeans(graph, x, { count: 2, length: 2 }, 2), /leave no patches/, 'no patches');
  x.requiresGrad = true;
  t.throws(() => tokenMeans(graph, x, { count: 2, length: 2 }, 1), GpuError, 'a gradient');
});
