import test from 'tape';
import { axisRanges, axisTaps } from '../../kernels/resize_bilinear.js';
import { Program } from '../../src/gpu/program.js';
import { batchNorm } from '../../src/tensor/batch_norm.js';
import { concatColumns } from '../../src/tensor/concat_columns.js';
import { Graph } from '../../src/tensor/graph.js';
import { linear } from '../../src/tensor/linear.js';
import { relu } from '../../src/tensor/relu.js';
import { resizeBilinear } from '../../src/tensor/resize_bilinear.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/dense_maps.js';
import { linear as linearOracle } from '../oracle/linear.js';

for (const [rows, columns, offset] of [
  [1, 1, 0],
  [37, 3, 0.25],
  [50, 24, 0],
]) {
  test(`relu ${rows} x ${columns} + ${offset}`, async (t) => {
    await checkOperator(t, {
      name: `relu ${rows}x${columns}`,
      inputs: { x: { shape: [rows, columns], data: noise(rows * columns, 1) } },
      build: (graph, { x }) => relu(graph, x, offset),
      oracle: ({ x }) => oracle.relu(x, offset),
    });
  });
}

for (const [pictures, pixels, widths] of [
  [2, 6, [8, 4]],
  [3, 5, [5, 3, 1]],
  [1, 17, [4, 8, 12]],
] as const) {
  test(`concatenation of ${widths}: every second one has a row a picture`, async (t) => {
    const shapes = widths.map((columns, i) => [i % 2 === 1 ? pictures : pictures * pixels, columns]);
    await checkOperator(t, {
      name: `concat ${widths}`,
      inputs: Object.fromEntries(
        shapes.map((shape, i) => [`part${i}`, { shape, data: noise(shape[0] * shape[1], i + 1) }]),
      ),
      build: (graph, inputs) => concatColumns(graph, Object.values(inputs)),
      oracle: (inputs) => oracle.concatColumns(Object.values(inputs).map((data, i) => ({ data, columns: widths[i] }))),
    });
  });
}

for (const [rows, outputs, inputs] of [
  [1, 1, 4],
  [261, 21, 24],
  [70, 19, 7],
]) {
  test(`linear layer ${rows} x ${outputs} x ${inputs}: widths that fill no quads have bias gradients too`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `linear ${outputs} of ${inputs}`,
      inputs: {
        x: { shape: [rows, inputs], data: noise(rows * inputs, 1) },
        weight: { shape: [outputs, inputs, 1, 1], data: noise(outputs * inputs, 2), weight: true },
        bias: { shape: [outputs], data: noise(outputs, 3), weight: true },
      },
      build: (graph, { x, weight, bias }) => linear(graph, x, weight, bias),
      oracle: ({ x, weight, bias }) => linearOracle(x, weight, bias, inputs),
    });
  });
}

for (const [rows, columns] of [
  [2, 3],
  [261, 8],
  [50, 21],
  [1300, 4],
]) {
  for (const mode of ['training', 'evaluation'] as const) {
    test(`batch norm ${rows} x ${columns}, ${mode}`, async (t) => {
      const [mean, spread] = [noise(columns, 4), noise(columns, 5).map((v) => 1.5 + v)];
      await checkOperator(t, {
        hardwareToo: true,
        name: `batch_norm ${rows}x${columns} ${mode}`,
        inputs: {
          // A mean far from 0, where sums of squares would cancel.
          x: { shape: [rows, columns], data: noise(rows * columns, 1).map((v, i) => 2 * v + 10 * (i % columns)) },
          weight: { shape: [columns], data: noise(columns, 2).map((v) => 1 + 0.3 * v), weight: true },
          bias: { shape: [columns], data: noise(columns, 3), weight: true },
        },
        build: (graph, { x, weight, bias }) => {
          const [runningMean, runningVar] = ['mean', 'variance'].map((name) => graph.program.input(name, [columns]));
          graph.program.write(runningMean, mean);
          graph.program.write(runningVar, spread);
          return batchNorm(graph, x, { weight, bias, runningMean, runningVar }, mode);
        },
        oracle: ({ x, weight, bias }) =>
          oracle.batchNorm(x, weight, bias, mode === 'evaluation' ? { mean, variance: spread } : undefined),
        forward: { absolute: 1e-4, relative: 1e-5 },
        step: 1e-4,
      });
    });
  }
}

test('batch norm moves its running statistics by a tenth a run, and refuses a single row', async (t) => {
  const [rows, columns] = [77, 6];
  const program = new Program(await testGpu(), 'running statistics');
  const graph = new Graph(program);
  const x = program.input('x', [rows, columns]);
  const single = program.input('single', [1, columns]);
  const [weight, bias, runningMean, runningVar] = ['weight', 'bias', 'mean', 'variance'].map((name) =>
    program.input(name, [columns]),
  );
  const weights = { weight, bias, runningMean, runningVar };
  batchNorm(graph, x, weights, 'training');
  t.throws(() => batchNorm(graph, single, weights, 'training'), /one row has no variance/);
  await program.compile();
  const data = noise(rows * columns, 9).map((v, i) => v * ((i % columns) + 1) + 3);
  program.write(x, data);
  program.write(runningVar, new Float32Array(columns).fill(1));
  const batch = oracle.columnMoments(data, columns);
  const [mean, variance] = [new Float64Array(columns), new Float64Array(columns).fill(1)];
  for (let run = 0; run < 2; run++) {
    program.run();
    for (let c = 0; c < columns; c++) {
      mean[c] = 0.9 * mean[c] + 0.1 * batch.mean[c];
      variance[c] = 0.9 * variance[c] + (0.1 * batch.variance[c] * rows) / (rows - 1);
    }
  }
  const [gotMean, gotVariance] = await program.readAll([runningMean, runningVar]);
  allClose(t, gotMean, mean, 'running mean');
  allClose(t, gotVariance, variance, 'running variance, unbiased');
  program.dispose();
});

for (const [pictures, from, to, channels] of [
  [2, [5, 4], [20, 16], 3],
  [1, [7, 9], [3, 4], 1],
  [2, [3, 3], [7, 5], 8],
  [1, [1, 6], [4, 1], 4],
  [1, [6, 5], [6, 11], 1],
] as const) {
  for (const alignCorners of [false, true]) {
    const name = `resize ${from} to ${to}, ${channels} channels${alignCorners ? ', corners aligned' : ''}`;
    test(name, async (t) => {
      const size = { pictures, height: from[0], width: from[1] };
      const target = { height: to[0], width: to[1], alignCorners };
      const rows = pictures * from[0] * from[1];
      await checkOperator(t, {
        name,
        inputs: { x: { shape: [rows, channels], data: noise(rows * channels, 1) } },
        build: (graph, { x }) => resizeBilinear(graph, { values: x, ...size }, target).values,
        oracle: ({ x }) => oracle.resizeBilinear(x, size, channels, target),
      });
    });
  }
}

test('every output of a resize is in the range of both of its inputs', (t) => {
  for (const alignCorners of [false, true]) {
    for (const [inputs, outputs] of [
      [37, 148],
      [148, 37],
      [16, 480],
      [480, 37],
      [1, 9],
      [9, 1],
      [37, 37],
    ]) {
      const taps = axisTaps(inputs, outputs, alignCorners);
      const ranges = axisRanges(inputs, taps);
      let missed = 0;
      for (let o = 0; o < outputs; o++) {
        for (const input of [taps[2 * o], Math.min(taps[2 * o] + 1, inputs - 1)]) {
          if (o < ranges[2 * input] || o >= ranges[2 * input + 1]) missed++;
        }
      }
      t.equal(missed, 0, `${inputs} to ${outputs}${alignCorners ? ', corners aligned' : ''}`);
    }
  }
  t.end();
});

test('dense operators name the shape that does not fit', async (t) => {
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const x = graph.program.input('x', [12, 3]);
  const half = graph.program.input('half', [12, 4], 'f16');
  const map = { values: x, pictures: 1, height: 3, width: 5 };
  t.throws(() => resizeBilinear(graph, map, { height: 6, width: 10, alignCorners: false }), /not a row for each pixel/);
  t.throws(
    () => resizeBilinear(graph, { ...map, width: 4 }, { height: 0, width: 3, alignCorners: true }),
    /no picture has 0 x 3 pixels/,
  );
  t.throws(() => relu(graph, half), /half is f16; dense heads are float32/);
  t.throws(() => concatColumns(graph, [x, graph.program.input('y', [5, 3])]), /do not divide 12 rows/);
});
