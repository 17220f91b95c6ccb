import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { goldenImage } from '../../src/io/golden_hash.js';
import { Graph } from '../../src/tensor/graph.js';
import { koleo } from '../../src/tensor/koleo.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import { COMPONENT_CASES, componentGoldens, GOLDEN_TOLERANCE, NO_GOLDENS } from '../oracle/component_goldens.js';
import * as oracle from '../oracle/koleo.js';

interface Groups {
  readonly rowStart: number;
  readonly groups: number;
  readonly rowsPerGroup: number;
}

/** Loss and gradient with an upstream gradient of 1. */
async function lossAndGradient(data: Float32Array, columns: number, groups: Groups): Promise<[number, Float32Array]> {
  const program = new Program(await testGpu(), 'koleo');
  const graph = new Graph(program);
  const x = program.input('x', [data.length / columns, columns]);
  x.requiresGrad = true;
  program.write(x, data);
  const loss = program.keep(koleo(graph, x, groups));
  graph.backward([[loss, program.constant('seed', [1], Float32Array.of(1))]]);
  const gradient = program.keep(graph.gradientOf(x)!);
  await program.compile({ guard: true });
  program.run();
  const [value, dx] = await program.readAll([loss, gradient]);
  program.dispose();
  return [value[0], dx as Float32Array];
}

/** The rows of the specification's example, with a fourth column of zeros: activations come in fours. */
const FOUR = Float32Array.of(1, 0, 0, 0, 0.9, 0.1, 0, 0, 0, 1, 0, 0, 0, 0.8, 0.3, 0);

test('koleo, golden numbers of the specification', async (t) => {
  const { neighbours, distances } = oracle.koleoOfGroup(Float64Array.from(FOUR), 4);
  t.deepEqual(neighbours, [1, 0, 3, 2], 'the neighbours');
  const expected = [0.1106008, 0.1106008, 0.3568496, 0.3568496];
  allClose(t, distances, expected, 'the distances', { absolute: 1e-7, relative: 0 });
  const [loss] = await lossAndGradient(FOUR, 4, { rowStart: 0, groups: 1, rowsPerGroup: 4 });
  allClose(t, [loss], [1.6161344], 'the loss', { absolute: 2e-6, relative: 0 });
  const pair = oracle.koleoOfGroup(Float64Array.of(0.6, 0.8, 0.6, 0.8), 2);
  allClose(t, [pair.loss], [17.5393], 'two identical rows', { absolute: 1e-4, relative: 0 });
  const wide = Float32Array.of(0.6, 0.8, 0, 0, 0.6, 0.8, 0, 0);
  const [twins, gradient] = await lossAndGradient(wide, 4, { rowStart: 0, groups: 1, rowsPerGroup: 2 });
  // All four differences are the epsilon alone.
  allClose(t, [twins], [-Math.log(3e-8)], 'and with two more columns', { absolute: 1e-4, relative: 0 });
  t.ok(
    gradient.every((value) => Number.isFinite(value)),
    'have a finite gradient',
  );
});

for (const [rows, columns, rowStart, groups, rowsPerGroup] of [
  [4, 8, 0, 1, 4],
  [33, 24, 5, 2, 13],
  [24, 260, 0, 2, 12],
  [101, 52, 1, 2, 50],
  [9, 1536, 3, 3, 2],
]) {
  test(`koleo of ${groups} x ${rowsPerGroup} rows of ${columns}, from row ${rowStart} of ${rows}`, async (t) => {
    const place = { rowStart, groups, rowsPerGroup };
    await checkOperator(t, {
      name: `koleo ${groups}x${rowsPerGroup}x${columns}`,
      inputs: { x: { shape: [rows, columns], data: noise(rows * columns, 3) } },
      build: (graph, { x }) => koleo(graph, x, place),
      oracle: ({ x }) => [oracle.koleo(x, columns, place)],
      step: 1e-6,
      half: true,
    });
  });
}

test('koleo of groups of one row: a finite constant', async (t) => {
  const data = noise(3 * 20, 1);
  const [loss, gradient] = await lossAndGradient(data, 20, { rowStart: 1, groups: 2, rowsPerGroup: 1 });
  allClose(t, [loss], [-2 * Math.log(1e-8 * Math.sqrt(20) + 1e-8)], 'the loss', { absolute: 1e-4, relative: 0 });
  allClose(t, gradient, new Float32Array(60), 'the gradient', { absolute: 0, relative: 0 });
});

test('koleo takes the lowest index among equal neighbours', async (t) => {
  // Rows 1 and 2 are equally near to row 0, which is the nearest to both: it gets one pull from each, and its own from row 1.
  const data = Float32Array.of(1, 0, 0, 0, 0.6, 0.8, 0, 0, 0.6, 0, 0.8, 0, -1, 0, 0, 0);
  const place = { rowStart: 0, groups: 1, rowsPerGroup: 4 };
  const [loss, gradient] = await lossAndGradient(data, 4, place);
  const { neighbours } = oracle.koleoOfGroup(Float64Array.from(data), 4);
  t.equal(neighbours[0], 1, 'so does the oracle');
  allClose(t, [loss], [oracle.koleo(Float64Array.from(data), 4, place)], 'the loss');
  allClose(t, [gradient[1] / gradient[2]], [2], 'row 0 is pushed away from row 1 twice as much as from row 2');
});

for (const name of COMPONENT_CASES) {
  test(`koleo against the reference, ${name}`, async (t) => {
    const goldens = componentGoldens(name);
    if (!goldens) {
      t.skip(NO_GOLDENS);
      return;
    }
    const { B, D, expected } = goldens;
    const x = goldenImage('koleo.x', [B, D]);
    const [loss, gradient] = await lossAndGradient(x, D, { rowStart: 0, groups: 1, rowsPerGroup: B });
    allClose(t, [loss], expected('koleo.loss'), 'loss', GOLDEN_TOLERANCE);
    allClose(t, gradient, expected('koleo.grad'), 'gradient', { absolute: 1e-6, relative: 1e-4 });
  });
}
