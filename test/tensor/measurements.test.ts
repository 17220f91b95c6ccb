import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { Graph } from '../../src/tensor/graph.js';
import { featureDeviation, teacherEntropy } from '../../src/tensor/measurements.js';
import { allClose, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/measurements.js';
import { softmaxCenter } from '../oracle/teacher_targets.js';

/** Runs a measurement of one matrix under guard. */
async function measure(
  data: Float32Array,
  columns: number,
  record: (graph: Graph, x: Tensor) => Tensor,
): Promise<number> {
  const program = new Program(await testGpu(), 'measurement');
  const x = program.input('x', [data.length / columns, columns]);
  program.write(x, data);
  const result = program.keep(record(new Graph(program), x));
  await program.compile({ guard: true });
  program.run();
  const [value] = await program.read(result);
  program.dispose();
  return value;
}

test('teacher entropy', async (t) => {
  for (const [rows, columns, count] of [
    [1, 40, undefined],
    [7, 261, undefined],
    [7, 261, 3],
    [3, 4099, 3],
  ] as const) {
    const logits = noise((rows + 2) * columns, 3);
    const targets = Float32Array.from(softmaxCenter(logits, new Float32Array(columns), 0.01));
    // A one-hot row has entropy 0 and must not take the logarithm of 0.
    targets.fill(0, columns, 2 * columns);
    targets[columns] = 1;
    const used = targets.subarray(columns, columns * (1 + (count ?? rows)));
    const entropy = await measure(targets, columns, (graph, x) => {
      const uses = count === undefined ? undefined : graph.program.constant('count', [1], Uint32Array.of(count));
      return teacherEntropy(graph, x, 1, rows, uses);
    });
    const expected = oracle.entropy(used, columns);
    allClose(t, [entropy], [expected], `${rows} x ${columns}, ${count ?? 'all'} used`, { relative: 1e-5 });
  }
  const uniform = new Float32Array(5 * 1000).fill(1 / 1000);
  const entropy = await measure(uniform, 1000, (graph, x) => teacherEntropy(graph, x, 0, 5));
  allClose(t, [entropy], [Math.log(1000)], 'a uniform teacher: ln K');
  const none = await measure(uniform, 1000, (graph, x) =>
    teacherEntropy(graph, x, 0, 5, graph.program.constant('count', [1], Uint32Array.of(0))),
  );
  t.equal(none, 0, 'no used row: 0');
});

test('feature deviation', async (t) => {
  for (const [rows, columns] of [
    [1, 24],
    [50, 65],
    [257, 384],
  ]) {
    const x = noise((rows + 3) * columns, 5).map((value) => value + 0.2);
    const deviation = await measure(x, columns, (graph, tensor) => featureDeviation(graph, tensor, 2, rows));
    const expected = oracle.featureDeviation(x.subarray(2 * columns, (2 + rows) * columns), columns);
    allClose(t, [deviation], [expected], `${rows} x ${columns}`, { absolute: 1e-6, relative: 1e-5 });
  }
});
