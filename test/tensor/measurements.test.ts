import test from 'tape';
import type { Gpu } from '../../src/gpu/device.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import { Program } from '../../src/gpu/program.js';
import type { Storage, Tensor } from '../../src/gpu/tensor.js';
import { Graph } from '../../src/tensor/graph.js';
import { featureDeviation, teacherEntropy } from '../../src/tensor/measurements.js';
import { allClose, noise, plannedAsHardware, testGpu } from '../fixture.js';
import * as oracle from '../oracle/measurements.js';
import { softmaxCenter } from '../oracle/teacher_targets.js';

/** Runs a measurement of one matrix under guard. */
async function measure(
  data: Float32Array,
  columns: number,
  record: (graph: Graph, x: Tensor) => Tensor,
  { gpu, storage = 'f32' }: { gpu?: Gpu; storage?: Storage } = {},
): Promise<number> {
  const program = new Program(gpu ?? (await testGpu()), 'measurement');
  const x = program.input('x', [data.length / columns, columns], storage);
  program.write(x, data);
  const result = program.keep(record(new Graph(program, storage), x));
  await program.compile({ guard: true });
  program.run();
  const [value] = await program.read(result);
  program.dispose();
  return value;
}

test('teacher entropy', async (t) => {
  for (const [rows, columns] of [
    [1, 40],
    [7, 261],
    [3, 4099],
  ] as const) {
    const logits = noise(rows * columns, 3);
    const targets = Float32Array.from(softmaxCenter(logits, new Float32Array(columns), 0.01));
    // A one-hot row has entropy 0 and must not take the logarithm of 0.
    targets.fill(0, 0, columns);
    targets[5] = 1;
    const entropy = await measure(targets, columns, teacherEntropy);
    allClose(t, [entropy], [oracle.entropy(targets, columns)], `${rows} x ${columns}`, { relative: 1e-5 });
  }
  const uniform = new Float32Array(5 * 1000).fill(1 / 1000);
  const entropy = await measure(uniform, 1000, teacherEntropy);
  allClose(t, [entropy], [Math.log(1000)], 'a uniform teacher: ln K');
});

test('feature deviation', async (t) => {
  const gpu = await testGpu();
  for (const [rows, columns] of [
    [1, 24],
    [50, 68],
    [257, 384],
  ]) {
    const x = noise((rows + 3) * columns, 5).map((value) => value + 0.2);
    for (const storage of ['f32', 'f16'] as const) {
      const stored = storage === 'f16' ? fromHalf(toHalf(x)) : x;
      const expected = oracle.featureDeviation(stored.subarray(2 * columns, (2 + rows) * columns), columns);
      for (const [adapter, where] of [
        [gpu, 'here'],
        [plannedAsHardware(gpu), 'as on hardware'],
      ] as const) {
        const record = (graph: Graph, tensor: Tensor): Tensor => featureDeviation(graph, tensor, 2, rows);
        const deviation = await measure(x, columns, record, { gpu: adapter, storage });
        const name = `${rows} x ${columns} in ${storage}, ${where}`;
        allClose(t, [deviation], [expected], name, { absolute: 1e-6, relative: storage === 'f16' ? 1e-3 : 1e-5 });
      }
    }
  }
});
