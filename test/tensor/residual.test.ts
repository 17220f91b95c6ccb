import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { Graph } from '../../src/tensor/graph.js';
import { linear } from '../../src/tensor/linear.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { type KeptRows, layerScale, scaledResidual } from '../../src/tensor/residual.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as linearOracle from '../oracle/linear.js';
import { inverse } from '../oracle/row_subsets.js';

const SCALE = [1.5, 1.5, 2, 2];
const KEPT = [5, 36, 0, 11];

function keptRows({ program }: Graph, rows: number): KeptRows {
  return {
    subset: {
      index: program.constant('index', [KEPT.length], Uint32Array.from(KEPT)),
      inverse: program.constant('inverse', [rows], inverse(KEPT, rows)),
    },
    scale: program.constant('scale', [KEPT.length], Float32Array.from(SCALE)),
  };
}

/** x, and x[kept] + scale gamma branch. */
function residualOfKept(
  x: Float64Array,
  branch: ArrayLike<number>,
  gamma: ArrayLike<number> | undefined,
  D: number,
): Float64Array {
  return x.map((v, i) => {
    const r = KEPT.indexOf(Math.floor(i / D));
    return r < 0 ? v : v + SCALE[r] * (gamma ? gamma[i % D] : 1) * branch[r * D + (i % D)];
  });
}

for (const gamma of [true, false]) {
  test(`residual of kept rows, ${gamma ? 'with' : 'without'} LayerScale`, async (t) => {
    const [N, D] = [37, 20];
    await checkOperator(t, {
      name: 'scaled residual',
      inputs: {
        x: { shape: [N, D], data: noise(N * D, 1) },
        branch: { shape: [KEPT.length, D], data: noise(KEPT.length * D, 2) },
        ...(gamma ? { gamma: { shape: [D], data: noise(D, 3), weight: true } } : {}),
      },
      build: (graph, { x, branch, gamma: g }) =>
        scaledResidual(graph, x, branch, g && layerScale(graph, g), keptRows(graph, N)),
      oracle: ({ x, branch, gamma: g }) => residualOfKept(x, branch, g, D),
      half: true,
      hardwareToo: true,
    });
  });
}

for (const [rows, columns] of [
  [1, 4],
  [257, 24],
  [261, 72],
]) {
  test(`residual of all ${rows} rows with LayerScale, ${columns} columns`, async (t) => {
    await checkOperator(t, {
      name: `residual ${rows}x${columns}`,
      inputs: {
        x: { shape: [rows, columns], data: noise(rows * columns, 1) },
        branch: { shape: [rows, columns], data: noise(rows * columns, 2) },
        gamma: { shape: [columns], data: noise(columns, 3), weight: true },
      },
      build: (graph, { x, branch, gamma }) => scaledResidual(graph, x, branch, layerScale(graph, gamma)),
      oracle: ({ x, branch, gamma }) => x.map((v, i) => v + gamma[i % columns] * branch[i]),
      half: true,
      hardwareToo: true,
    });
  });
}

for (const [K, D, bias] of [
  [12, 20, true],
  [132, 36, false],
] as const) {
  test(`LayerScale's gradient from the linear layer of its branch, ${bias ? 'with' : 'without'} bias`, async (t) => {
    const N = 37;
    const weight = noise(D * K, 4).map((v) => Math.round(64 * v) / 64);
    const shift = noise(D, 5);
    await checkOperator(t, {
      name: 'layer scale',
      inputs: {
        x: { shape: [N, D], data: noise(N * D, 1) },
        a: { shape: [KEPT.length, K], data: noise(KEPT.length * K, 2) },
        gamma: { shape: [D], data: noise(D, 3).map((v) => Math.sign(v) * (0.1 + 0.9 * Math.abs(v))), weight: true },
      },
      build: (graph, { x, a, gamma }) => {
        const { program } = graph;
        const last: { weight: Tensor; bias?: Tensor } = { weight: program.constant('weight', [D, K], weight) };
        if (graph.activations === 'f16') {
          last.weight.half = program.input('weight in halves', [D, K], 'f16');
          program.write(last.weight.half, weight);
        }
        if (bias) last.bias = program.constant('bias', [D], shift);
        for (const parameter of Object.values(last)) parameter.requiresGrad = true;
        const scale = layerScale(graph, gamma, last);
        const branch = linear(graph, a, last.weight, last.bias);
        return scaledResidual(graph, x, branch, scale, keptRows(graph, N));
      },
      oracle: ({ x, a, gamma }) =>
        residualOfKept(x, linearOracle.linear(a, weight, bias ? shift : undefined, K), gamma, D),
      gradient: { absolute: 2e-4, relative: 2e-4 },
      half: { gradient: { absolute: 1e-3, relative: 4e-3 } },
      hardwareToo: true,
    });
  });
}

for (const checkpointed of [false, true]) {
  test(`LayerScale's gradient among parameters that share buffers${checkpointed ? ', checkpointed' : ''}`, async (t) => {
    const gpu = await testGpu();
    const [N, K, D] = [9, 8, 12];
    const store = new ParameterStore(gpu, 'weights', [
      { name: 'weight', shape: [D, K] },
      { name: 'bias', shape: [D] },
      { name: 'gamma', shape: [D] },
    ]);
    const gradients = store.like('gradients');
    store.trainable(gradients);
    const [weight, bias, gamma] = ['weight', 'bias', 'gamma'].map((name) => store.get(name));
    const [w, b, g] = [noise(D * K, 1), noise(D, 2), noise(D, 3)];
    g[4] = 0;
    await store.writeAll(
      new Map([
        ['weight', w],
        ['bias', b],
        ['gamma', g],
      ]),
    );
    const [aData, seedData] = [noise(N * K, 4), noise(N * D, 5)];
    const program = new Program(gpu, 'stored block');
    const graph = new Graph(program);
    const a = program.constant('a', [N, K], aData);
    const x = program.constant('x', [N, D], noise(N * D, 6));
    const block = (): Tensor => {
      const scale = layerScale(graph, gamma, { weight, bias });
      return scaledResidual(graph, x, linear(graph, a, weight, bias), scale);
    };
    const out = checkpointed ? graph.checkpoint(block) : block();
    graph.backward([[out, program.constant('seed', [N, D], seedData)]]);
    await program.compile();
    program.run();
    const branch = linearOracle.linear(aData, w, b, K);
    const expected = new Float64Array(D);
    branch.forEach((v, i) => {
      expected[i % D] += v * seedData[i];
    });
    expected[4] = 0;
    const { gamma: actual } = Object.fromEntries(await gradients.readAll());
    allClose(t, actual, expected, 'gradient of gamma, 0 where gamma is', { absolute: 1e-4, relative: 1e-4 });
    program.dispose();

    const twice = new Graph(new Program(gpu, 'used twice'));
    const input = twice.program.constant('x', [N, K], aData);
    let stream = twice.program.constant('stream', [N, D], noise(N * D, 6));
    for (let i = 0; i < 2; i++) {
      const scale = layerScale(twice, gamma, { weight, bias });
      stream = scaledResidual(twice, stream, linear(twice, input, weight, bias), scale);
    }
    const upstream = twice.program.constant('seed', [N, D], seedData);
    t.throws(() => twice.backward([[stream, upstream]]), /gamma scales two branches of one graph/);
    store.dispose();
    gradients.dispose();
  });
}

test('where LayerScale takes its gradient from', async (t) => {
  const program = new Program(await testGpu(), 'LayerScale');
  const graph = new Graph(program);
  const [weight, bias, gamma] = [[12, 8], [12], [12]].map((shape, i) => program.input(`parameter ${i}`, shape));
  t.notOk(layerScale(graph, gamma, { weight, bias }).fromLinear, 'frozen: it has none');
  for (const parameter of [weight, gamma]) parameter.requiresGrad = true;
  t.notOk(layerScale(graph, gamma).fromLinear, 'the branch, without a linear layer');
  t.notOk(layerScale(graph, gamma, { weight, bias }).fromLinear, 'the branch, with a layer that is half frozen');
  bias.requiresGrad = true;
  t.ok(layerScale(graph, gamma, { weight, bias }).fromLinear, 'the layer, if all of it learns');
  t.notOk(graph.withoutGradient(() => layerScale(graph, gamma, { weight, bias })).fromLinear, 'nobody wants one');
  t.throws(
    () => scaledResidual(graph, program.input('x', [3, 50]), program.input('branch', [3, 50])),
    /scaled_residual: rows of 50 values; activations need a multiple of 4/,
  );
});
