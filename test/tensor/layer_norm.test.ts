import test from 'tape';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { layerNorm } from '../../src/tensor/layer_norm.js';
import { NO_ROW, type RowSubset } from '../../src/tensor/rows.js';
import * as layerNormKernel from '../../kernels/layer_norm.js';
import { checkOperator, noise, sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/layer_norm.js';

function subsetOf(program: Program, rows: readonly number[], of: number): RowSubset {
  const inverse = new Uint32Array(of).fill(NO_ROW);
  rows.forEach((row, r) => {
    inverse[row] = r;
  });
  return {
    index: program.constant('index', [rows.length], Uint32Array.from(rows)),
    inverse: program.constant('inverse', [of], inverse),
  };
}

test('layer-norm, golden numbers of the specification', async (t) => {
  const y = oracle.layerNorm([1, 2, 3, 5], [1, 1, 1, 1], [0, 0, 0, 0], 4);
  [-1.183216, -0.507092, 0.169031, 1.521277].forEach((value, i) => {
    t.ok(Math.abs(y[i] - value) < 1e-6, `the oracle gives ${value}`);
  });
});

for (const [rows, columns] of [
  [1, 8],
  [50, 24],
  [257, 64],
  [261, 100],
  [5, 388],
  [3, 1536],
  // Too wide to stay in registers between the passes, where hardware holds rows.
  [2, 4100],
]) {
  test(`layer-norm ${rows} x ${columns}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `layer_norm ${rows}x${columns}`,
      inputs: {
        x: { shape: [rows, columns], data: noise(rows * columns, 1).map((v) => 2 * v + 0.3) },
        weight: { shape: [columns], data: noise(columns, 2).map((v) => 1 + 0.3 * v), weight: true },
        bias: { shape: [columns], data: noise(columns, 3), weight: true },
      },
      build: (graph, { x, weight, bias }) => layerNorm(graph, x, weight, bias),
      oracle: ({ x, weight, bias }) => oracle.layerNorm(x, weight, bias, columns),
      half: true,
    });
  });
}

test('layer-norm of some rows, read through an index', async (t) => {
  const kept = [7, 0, 36, 12, 13];
  await checkOperator(t, {
    hardwareToo: true,
    name: 'layer_norm gathered',
    inputs: {
      x: { shape: [37, 40], data: noise(37 * 40, 4) },
      weight: { shape: [40], data: noise(40, 5), weight: true },
      bias: { shape: [40], data: noise(40, 6), weight: true },
    },
    build: (graph, { x, weight, bias }) => layerNorm(graph, x, weight, bias, subsetOf(graph.program, kept, 37)),
    oracle: ({ x, weight, bias }) => oracle.layerNorm(x, weight, bias, 40, kept),
    half: true,
  });
});

test('layer-norm is made again with the same bits', async (t) => {
  for (const storage of ['f32', 'f16'] as const) {
    const program = new Program(await testGpu(), 'layer-norm again');
    const graph = new Graph(program, storage);
    const x = program.input('x', [50, 3, 24], storage);
    const [weight, bias] = ['weight', 'bias'].map((name, i) => program.constant(name, [24], noise(24, i + 2)));
    t.equal(layerNorm(graph, x, weight, bias).recompute, undefined, 'never without a gradient');
    x.requiresGrad = true;
    const y = layerNorm(graph, x, weight, bias);
    const again = y.reshape([150, 24]).recompute!();
    t.deepEqual(again.shape, [150, 24], 'also through another shape');
    for (const tensor of [y, again]) program.keep(tensor);
    await program.compile();
    program.write(x, noise(x.elements, 1));
    program.run();
    const [first, second] = await program.readAll([y, again]);
    sameBits(t, first, second, storage);
    program.dispose();
  }
});

test('layer-norm refuses rows that are no whole quads', async (t) => {
  const program = new Program(await testGpu(), 'layer-norm refused');
  const [x, weight, bias] = [[3, 50], [50], [50]].map((shape, i) => program.input(`input ${i}`, shape));
  t.throws(
    () => layerNorm(new Graph(program), x, weight, bias),
    /layer_norm: rows of 50 values; activations need a multiple of 4/,
  );
});

test('layer-norm plans: lanes, registers and sums by the width and the adapter', (t) => {
  const size = { rows: 100, columns: 384, epsilon: 1e-6, gather: false, storage: 'f16' } as const;
  const hardware = { ...BASELINE_CAPABILITIES, subgroups: true, subgroupMinSize: 32, subgroupMaxSize: 32 };
  const wide = layerNormKernel.plan(size, hardware);
  t.deepEqual(wide.includes, ['lib/storage_f16.wgsl', 'lib/rows_subgroup.wgsl'], 'a row a subgroup');
  t.equal(wide.prelude.STEPS, 3, '96 quads for 32 lanes');
  t.equal(wide.prelude.HELD, 3, 'all of them held');
  t.equal(wide.grid[0], 13, '8 rows a workgroup');
  const narrow = layerNormKernel.plan(size, { ...hardware, subgroupMinSize: 16 });
  t.equal(narrow.includes?.[1], 'lib/rows.wgsl', 'through workgroup memory where subgroups may be narrower');
  t.equal(narrow.grid[0], 50, '2 rows a workgroup');
  const software = layerNormKernel.plan(size, { ...hardware, software: true });
  t.equal(software.prelude.LANES, 1, 'one lane a row on a CPU');
  t.equal(software.prelude.HOLD, false, 'whose caches hold the row');
  t.equal(wide.bytes, 2 * 2 * 100 * 384 + 8 * 384 + 8 * 100, 'the bytes that must move');
  t.end();
});
