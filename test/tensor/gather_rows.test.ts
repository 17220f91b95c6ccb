import test from 'tape';
import { GpuError } from '../../src/errors.js';
import { Program } from '../../src/gpu/program.js';
import { gatherRows } from '../../src/tensor/gather_rows.js';
import { Graph } from '../../src/tensor/graph.js';
import { checkOperator, noise, testGpu } from '../fixture.js';

test('gatherRows: rows by an index, some twice, in any order', async (t) => {
  for (const [rows, columns, kept] of [
    [257, 52, [256, 0, 17, 17, 3]],
    [5, 260, [4]],
    [50, 64, Array.from({ length: 101 }, (_, i) => (i * 7) % 50)],
  ] as const) {
    await checkOperator(t, {
      name: `gatherRows ${kept.length} of [${rows}, ${columns}]`,
      inputs: { x: { shape: [rows, columns], data: noise(rows * columns, 3), constant: true } },
      build: (graph, { x }) =>
        gatherRows(graph, x, graph.program.constant('index', [kept.length], Uint32Array.from(kept))),
      oracle: ({ x }) => kept.flatMap((row) => [...x.subarray(row * columns, (row + 1) * columns)]),
      half: true,
    });
  }
});

test('gatherRows refuses to bring a gradient back', async (t) => {
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const x = graph.program.input('x', [4, 8]);
  x.requiresGrad = true;
  t.throws(() => gatherRows(graph, x, graph.program.input('index', [2], 'u32')), GpuError);
});
