import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { convolution3x3, tileRows, transposedConvolution } from '../../src/tensor/convolution.js';
import { Graph } from '../../src/tensor/graph.js';
import { checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/dense_maps.js';

for (const [pictures, height, width, channels, outputs, stride, tileBytes] of [
  [1, 1, 1, 1, 1, 1],
  [2, 5, 7, 3, 5, 1],
  [2, 5, 7, 3, 5, 2],
  [1, 6, 4, 8, 4, 1],
  [1, 6, 4, 8, 4, 2],
  // In tiles of 64 rows, the last one short, none of them a picture.
  [3, 9, 7, 4, 6, 1, 1],
  [3, 17, 9, 2, 3, 2, 1],
] as const) {
  for (const biased of [true, false]) {
    const size = { pictures, height, width };
    const shape = `${pictures} x ${height} x ${width}, ${channels} to ${outputs}, stride ${stride}`;
    const name = `convolution ${shape}${biased ? ', bias' : ''}${tileBytes ? ', tiled' : ''}`;
    test(name, async (t) => {
      const rows = pictures * height * width;
      await checkOperator(t, {
        hardwareToo: true,
        name,
        inputs: {
          x: { shape: [rows, channels], data: noise(rows * channels, 1) },
          weight: {
            shape: [outputs, channels, 3, 3],
            data: noise(outputs * channels * 9, 2).map((v) => v / 3),
            weight: true,
          },
          ...(biased ? { bias: { shape: [outputs], data: noise(outputs, 3), weight: true } } : {}),
        },
        build: (graph, { x, weight, bias }) =>
          convolution3x3(graph, { values: x, ...size }, weight, { bias, stride, tileBytes }).values,
        oracle: ({ x, weight, bias }) => oracle.convolution3x3(x, size, weight, outputs, bias, stride),
      });
    });
  }
}

for (const [pictures, height, width, channels, outputs, k] of [
  [1, 1, 1, 1, 1, 2],
  [2, 3, 5, 4, 4, 4],
  [1, 7, 4, 3, 5, 2],
  [2, 4, 3, 8, 2, 2],
] as const) {
  const size = { pictures, height, width };
  const name = `transposed convolution ${pictures} x ${height} x ${width}, ${channels} to ${outputs}, ${k} wide`;
  test(name, async (t) => {
    const rows = pictures * height * width;
    await checkOperator(t, {
      hardwareToo: true,
      name,
      inputs: {
        x: { shape: [rows, channels], data: noise(rows * channels, 1) },
        weight: { shape: [channels, outputs, k, k], data: noise(channels * outputs * k * k, 2), weight: true },
        bias: { shape: [outputs], data: noise(outputs, 3), weight: true },
      },
      build: (graph, { x, weight, bias }) => transposedConvolution(graph, { values: x, ...size }, weight, bias).values,
      oracle: ({ x, weight, bias }) => oracle.transposedConvolution(x, size, weight, bias, k),
    });
  });
}

test('convolutions: tiles of the unfolded matrix, and shapes that do not fit', async (t) => {
  t.equal(tileRows(256), 7232, '64 MiB of 256 channels, in steps that may be bound by themselves');
  t.equal(tileRows(1), 1864128, 'of one');
  t.equal(tileRows(10 ** 6), 64, 'never less than one step');
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const x = graph.program.input('x', [12, 3]);
  const weight = graph.program.input('weight', [5, 4, 3, 3]);
  const bias = graph.program.input('bias', [5]);
  const map = { values: x, pictures: 1, height: 3, width: 4 };
  t.throws(() => convolution3x3(graph, map, weight), /x \[12,3\] does not fit weight \[5,4,3,3\]/);
  t.throws(() => transposedConvolution(graph, map, weight, bias), /does not fit weight .* with bias \[5\]/);
});
