/** How fast are the operators of dense heads: convolutions, resizes, batch norm, and the losses of pixels. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Tensor } from '../src/gpu/tensor.js';
import { batchNorm } from '../src/tensor/batch_norm.js';
import { concatColumns } from '../src/tensor/concat_columns.js';
import { convolution3x3, transposedConvolution } from '../src/tensor/convolution.js';
import { depthBins } from '../src/tensor/depth_bins.js';
import { gradientLoss, sigLoss } from '../src/tensor/depth_losses.js';
import { Graph } from '../src/tensor/graph.js';
import { linear } from '../src/tensor/linear.js';
import { pixelCrossEntropy } from '../src/tensor/pixel_cross_entropy.js';
import { relu } from '../src/tensor/relu.js';
import { resizeBilinear } from '../src/tensor/resize_bilinear.js';
import { noise } from '../test/fixture.js';
import * as lossOracle from '../test/oracle/dense_losses.js';
import * as mapOracle from '../test/oracle/dense_maps.js';
import { linear as linearOracle } from '../test/oracle/linear.js';
import { type BenchCase, type BenchSection, operatorCase, WITH_BACKWARD } from './checked_bench.js';
import { compareSamples } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';

type Size = readonly [pictures: number, height: number, width: number];

function mapOf([pictures, height, width]: Size): { pictures: number; height: number; width: number; rows: number } {
  return { pictures, height, width, rows: pictures * height * width };
}

/** Numbers away from 0, so that no slope is taken across the kink of a rectifier. */
function unkinked(count: number, seed: number): Float32Array {
  return noise(count, seed).map((v) => v + Math.sign(v) * 0.01);
}

function reluCases(rows: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'relu',
    shape: `${rows} × ${columns}`,
    inputs: { x: { shape: [rows, columns], data: () => unkinked(rows * columns, 1) } },
    build: (graph, { x }) => relu(graph, x),
    oracle: ({ x }) => mapOracle.relu(x),
  });
}

function concatCases(pictures: number, pixels: number, columns: number): BenchCase[] {
  const rows = pictures * pixels;
  return forwardAndBackward({
    operator: 'concat_columns of patches and CLS',
    shape: `${pictures} × ${pixels} × 2 · ${columns}`,
    inputs: { patches: { shape: [rows, columns] }, cls: { shape: [pictures, columns] } },
    build: (graph, { patches, cls }) => concatColumns(graph, [patches, cls]),
    oracle: ({ patches, cls }) => mapOracle.concatColumns([patches, cls].map((data) => ({ data, columns }))),
  });
}

/** The classifier of a linear segmentation head, whose width fills no quads. */
function classifierCases(rows: number, classes: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'linear to classes',
    shape: `${rows} × ${classes} × ${columns}`,
    inputs: {
      x: { shape: [rows, columns] },
      weight: { shape: [classes, columns, 1, 1], weight: true },
      bias: { shape: [classes], weight: true },
    },
    build: (graph, { x, weight, bias }) => linear(graph, x, weight, bias),
    oracle: ({ x, weight, bias }) => linearOracle(x, weight, bias, columns),
  });
}

function batchNormCases(rows: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'batch_norm',
    shape: `${rows} × ${columns}`,
    inputs: {
      x: { shape: [rows, columns] },
      weight: { shape: [columns], weight: true },
      bias: { shape: [columns], weight: true },
      runningMean: { shape: [columns], constant: true },
      runningVar: { shape: [columns], constant: true },
    },
    build: (graph, { x, ...weights }) =>
      batchNorm(graph, x, weights as Record<'weight' | 'bias' | 'runningMean' | 'runningVar', Tensor>, 'training'),
    oracle: ({ x, weight, bias }) => mapOracle.batchNorm(x, weight, bias),
  });
}

function resizeCases(from: Size, height: number, width: number, channels: number): BenchCase[] {
  const { rows, ...map } = mapOf(from);
  return [false, true].flatMap((alignCorners) =>
    forwardAndBackward({
      operator: `resize_bilinear${alignCorners ? ', corners aligned' : ''}`,
      shape: `${from.join(' × ')} to ${height} × ${width}, ${channels} channels`,
      inputs: { x: { shape: [rows, channels] } },
      build: (graph, { x }) => resizeBilinear(graph, { values: x, ...map }, { height, width, alignCorners }).values,
      oracle: ({ x }) => mapOracle.resizeBilinear(x, map, channels, { height, width, alignCorners }),
    }),
  );
}

function transposedCases(from: Size, channels: number, k: number): BenchCase[] {
  const { rows, ...map } = mapOf(from);
  return forwardAndBackward({
    operator: 'transposed convolution',
    shape: `${from.join(' × ')}, ${channels} channels, ${k} × ${k}`,
    inputs: {
      x: { shape: [rows, channels] },
      weight: { shape: [channels, channels, k, k], weight: true },
      bias: { shape: [channels], weight: true },
    },
    build: (graph, { x, weight, bias }) => transposedConvolution(graph, { values: x, ...map }, weight, bias).values,
    oracle: ({ x, weight, bias }) => mapOracle.transposedConvolution(x, map, weight, bias, k),
  });
}

/** Its oracle would take minutes at the sizes of a DPT head: some values of result and gradients, each by its definition. */
function convolutionCases(from: Size, channels: number, outputs: number, stride: 1 | 2): BenchCase[] {
  const { rows, pictures, height, width } = mapOf(from);
  const [outHeight, outWidth] = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const outRows = pictures * outHeight * outWidth;
  const shape = `${from.join(' × ')}, ${channels} to ${outputs} channels, stride ${stride}`;
  return [false, true].map((backward) =>
    operatorCase(`convolution${backward ? WITH_BACKWARD : ''}`, shape, (program) => {
      const x = program.input('x', [rows, channels]);
      const weight = program.input('weight', [outputs, channels, 3, 3]);
      const upstream = backward ? program.input('upstream', [outRows, outputs]) : undefined;
      for (const tensor of [x, weight]) tensor.requiresGrad = backward;
      const empty = new Float32Array();
      const values: Record<'x' | 'weight' | 'upstream', Float32Array> = { x: empty, weight: empty, upstream: empty };
      return {
        prepare: () => {
          values.x = noise(x.elements, 1);
          values.weight = noise(weight.elements, 2);
          program.write(x, values.x);
          program.write(weight, values.weight);
          if (!upstream) return;
          values.upstream = noise(upstream.elements, 3);
          program.write(upstream, values.upstream);
        },
        record: () => {
          const graph = new Graph(program);
          const y = convolution3x3(graph, { values: x, pictures, height, width }, weight, { stride }).values;
          if (!upstream) return [y];
          graph.backward([[y, upstream]]);
          return [y, graph.gradientOf(x)!, graph.gradientOf(weight)!];
        },
        check: ([y, dx, dweight]) => {
          /** The input pixel that output pixel r sees through a tap, if it lies in the picture. */
          const seen = (r: number, tap: number): number | undefined => {
            const j = (Math.floor(r / outWidth) % outHeight) * stride + Math.floor(tap / 3) - 1;
            const k = (r % outWidth) * stride + (tap % 3) - 1;
            if (j < 0 || k < 0 || j >= height || k >= width) return undefined;
            return (Math.floor(r / (outHeight * outWidth)) * height + j) * width + k;
          };
          const bound = 1e-4;
          const comparisons = [
            compareSamples(
              'forward',
              y,
              (place) => {
                const [r, o] = [Math.floor(place / outputs), place % outputs];
                let sum = 0;
                for (let tap = 0; tap < 9; tap++) {
                  const at = seen(r, tap);
                  if (at === undefined) continue;
                  for (let c = 0; c < channels; c++) {
                    sum += values.x[at * channels + c] * values.weight[(o * channels + c) * 9 + tap];
                  }
                }
                return sum;
              },
              bound,
            ),
          ];
          if (!backward) return comparisons;
          return [
            ...comparisons,
            compareSamples(
              'gradient of x',
              dx,
              (place) => {
                const [at, c] = [Math.floor(place / channels), place % channels];
                const [j, k] = [Math.floor(at / width) % height, at % width];
                const picture = Math.floor(at / (height * width));
                let sum = 0;
                for (let tap = 0; tap < 9; tap++) {
                  const [down, across] = [j + 1 - Math.floor(tap / 3), k + 1 - (tap % 3)];
                  if (down % stride !== 0 || across % stride !== 0) continue;
                  const [v, u] = [down / stride, across / stride];
                  if (v < 0 || u < 0 || v >= outHeight || u >= outWidth) continue;
                  const r = (picture * outHeight + v) * outWidth + u;
                  for (let o = 0; o < outputs; o++) {
                    sum += values.upstream[r * outputs + o] * values.weight[(o * channels + c) * 9 + tap];
                  }
                }
                return sum;
              },
              bound,
            ),
            compareSamples(
              'gradient of the weight',
              dweight,
              (place) => {
                const [o, c, tap] = [Math.floor(place / (9 * channels)), Math.floor(place / 9) % channels, place % 9];
                let sum = 0;
                for (let r = 0; r < outRows; r++) {
                  const at = seen(r, tap);
                  if (at !== undefined) sum += values.upstream[r * outputs + o] * values.x[at * channels + c];
                }
                return sum;
              },
              bound,
            ),
          ];
        },
      };
    }),
  );
}

function crossEntropyCases(rows: number, classes: number): BenchCase[] {
  const labels = Uint32Array.from({ length: rows }, (_, r) => (r % 5 === 3 ? 255 : (r * 7) % classes));
  return forwardAndBackward({
    operator: 'pixel_cross_entropy',
    shape: `${rows} × ${classes}`,
    inputs: { logits: { shape: [rows, classes] } },
    tables: { labels: { shape: [rows], data: labels } },
    build: (graph, tensors) => pixelCrossEntropy(graph, tensors.logits, tensors.labels),
    oracle: ({ logits }) => [lossOracle.pixelCrossEntropy(logits, labels)],
  });
}

function depthBinsCases(rows: number, bins: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'depth_bins',
    shape: `${rows} × ${bins}`,
    inputs: { logits: { shape: [rows, bins], data: () => unkinked(rows * bins, 1) } },
    build: (graph, { logits }) => depthBins(graph, logits, { min: 0.001, max: 10 }),
    oracle: ({ logits }) => lossOracle.depthBins(logits, bins, 0.001, 10),
  });
}

function depthLossCases(size: Size): BenchCase[] {
  const { rows, ...map } = mapOf(size);
  const truth = noise(rows, 8).map((v, i) => (i % 7 === 5 ? 0 : 4 + 3 * v));
  const shared = {
    shape: size.join(' × '),
    inputs: { prediction: { shape: [rows, 1], data: () => noise(rows, 1).map((v) => 3 + 2 * v) } },
    tables: {
      truth: { shape: [rows], data: truth },
      warmUp: { shape: [1], data: Uint32Array.of(0) },
    },
  };
  return [
    ...forwardAndBackward({
      ...shared,
      operator: 'sig_loss',
      build: (graph, { prediction, truth: target, warmUp }) => sigLoss(graph, prediction, target, warmUp),
      oracle: ({ prediction }) => [lossOracle.sigLoss(prediction, truth, false)],
    }),
    ...forwardAndBackward({
      ...shared,
      operator: 'gradient_loss',
      build: (graph, { prediction, truth: target }) => gradientLoss(graph, { values: prediction, ...map }, target),
      oracle: ({ prediction }) => [lossOracle.gradientLoss(prediction, truth, map)],
      // Some pairs are closer than the step of the slope, which then crosses the kink of their absolute difference.
      gradientBound: 5e-3,
    }),
  ];
}

function cases({ software }: Capabilities): BenchCase[] {
  return [
    ...reluCases(software ? 1024 : 65536, 256),
    ...reluCases(51, 3),
    ...concatCases(software ? 2 : 16, software ? 256 : 1369, 384),
    ...classifierCases(software ? 1024 : 16 * 1369, 21, 384),
    ...batchNormCases(software ? 1024 : 16 * 1369, 384),
    ...resizeCases(software ? [1, 16, 16] : [4, 37, 37], software ? 64 : 148, software ? 64 : 148, 32),
    // Logits of a segmentation head to the size of the labels.
    ...resizeCases(software ? [1, 8, 8] : [4, 32, 32], software ? 112 : 448, software ? 112 : 448, 21),
    ...transposedCases(software ? [1, 8, 8] : [4, 37, 37], software ? 16 : 48, 4),
    ...convolutionCases(software ? [1, 16, 16] : [1, 148, 148], software ? 32 : 256, software ? 32 : 256, 1),
    ...convolutionCases(software ? [2, 9, 7] : [4, 37, 37], software ? 12 : 384, software ? 12 : 384, 2),
    ...crossEntropyCases(software ? 4096 : 262144, 21),
    ...crossEntropyCases(software ? 512 : 65536, 150),
    ...depthBinsCases(software ? 1024 : 21904, 256),
    ...depthLossCases(software ? [1, 60, 80] : [4, 480, 640]),
  ];
}

export const section: BenchSection = { name: 'dense', question: 'How fast are the operators of dense heads?', cases };
