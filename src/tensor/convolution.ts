/**
 * Convolutions as matrix products, weights in PyTorch's layout, float32.
 *
 * A 3 x 3 convolution multiplies the unfolded neighbourhoods [pixels, 9 C] by its weight [outputs, 9 C] as it is stored. The
 * unfolded matrix is nine times the map, so it is made in tiles of rows, each multiplied before the next is made, and made
 * again for the gradient of the weight, which adds up tile by tile in their order. The gradient of the input is a product
 * too: the unfolded gradient of the output, by the weight with its channels swapped. Nothing is scattered.
 */

import * as addInPlace from '../../kernels/add_in_place.js';
import * as depthToSpace from '../../kernels/depth_to_space.js';
import * as depthToSpaceBackward from '../../kernels/depth_to_space_backward.js';
import * as swapChannels from '../../kernels/swap_channels.js';
import * as unfoldKernel from '../../kernels/unfold.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32, assertMap, type FeatureMap } from './feature_map.js';
import type { Graph } from './graph.js';
import { columnSums, dispatchGemm, dispatchSplitGemm } from './linear.js';

/** Bytes of one tile of the unfolded matrix: large enough for a product at full speed, half of the smallest binding. */
const TILE_BYTES = 64 * 2 ** 20;

/** Rows at which a range of any matrix may be bound by itself. */
const TILE_ROWS = 64;

/** Rows of a tile of an unfolded matrix [rows, 9 channels]. */
export function tileRows(channels: number, tileBytes = TILE_BYTES): number {
  return TILE_ROWS * Math.max(1, Math.floor(tileBytes / (4 * 9 * channels) / TILE_ROWS));
}

export interface ConvolutionOptions {
  readonly bias?: Tensor;
  readonly stride?: 1 | 2;
  /** Most bytes of a tile of the unfolded matrix. */
  readonly tileBytes?: number;
}

/**
 * 3 x 3 with one pixel of zeros around.
 * @param weight f32 [outputs, channels, 3, 3]
 * @param options.bias f32 [outputs]
 * @returns the map of `outputs` channels; with stride 2 of half the height and width, rounded up
 */
export function convolution3x3(
  graph: Graph,
  map: FeatureMap,
  weight: Tensor,
  { bias, stride = 1, tileBytes }: ConvolutionOptions = {},
): FeatureMap {
  const { program } = graph;
  const { values: x, pictures } = map;
  const [outputs, channels] = weight.shape;
  assertMap('convolution3x3', map);
  assertFloat32('convolution3x3', weight, bias);
  if (channels !== x.columns || weight.elements !== outputs * channels * 9 || (bias && bias.elements !== outputs)) {
    throw new GpuError(
      `convolution3x3: ${x.name} [${x.shape}] does not fit ${weight.name} [${weight.shape}]${bias ? ` with ${bias.name} [${bias.shape}]` : ''}`,
    );
  }
  const [height, width] = [map.height, map.width].map((size) => Math.ceil(size / stride));
  const rows = pictures * height * width;

  /** Runs through the rows of an unfolded matrix tile by tile. */
  const tiles = (
    source: Tensor,
    size: Pick<unfoldKernel.UnfoldParams, 'height' | 'width' | 'xHeight' | 'xWidth' | 'transposed'>,
    use: (unfolded: Tensor, first: number) => void,
  ): void => {
    const all = pictures * size.height * size.width;
    const most = tileRows(source.columns, tileBytes);
    for (let first = 0; first < all; first += most) {
      const count = Math.min(most, all - first);
      const unfolded = program.intermediate('unfolded', [count, 9 * source.columns]);
      const plan = unfoldKernel.plan(
        { ...size, rows: count, first, channels: source.columns, stride },
        program.gpu.capabilities,
      );
      program.dispatch(plan, [source, unfolded]);
      use(unfolded, first);
    }
  };
  const forwards = { height, width, xHeight: map.height, xWidth: map.width, transposed: false };
  const range = (matrix: Tensor, first: number, count: number): Tensor =>
    matrix.slice(first * matrix.columns, [count, matrix.columns]);

  const y = program.intermediate('convolution', [rows, outputs]);
  tiles(x, forwards, (unfolded, first) => {
    const size = { M: unfolded.rows, N: outputs, K: 9 * channels };
    const out = range(y, first, unfolded.rows);
    dispatchGemm(program, { layout: 'NT', ...size }, { a: unfolded, b: weight, bias, out });
  });
  const result = { values: y, pictures, height, width };
  if (!graph.needsGradient(x, weight, bias)) return result;

  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(weight, (into) => {
      tiles(x, forwards, (unfolded, first) => {
        const out = first === 0 ? into : program.intermediate('weight_gradient_of_tile', weight.shape);
        const size = { M: outputs, N: 9 * channels, K: unfolded.rows };
        dispatchSplitGemm(program, { layout: 'TN', ...size }, { a: range(dy, first, unfolded.rows), b: unfolded, out });
        if (first > 0) program.dispatch(addInPlace.plan({ elements: weight.elements }), [into, out]);
      });
    });
    if (bias) graph.contribute(bias, (into) => columnSums(program, dy, into));
    graph.contribute(x, (into) => {
      const swapped = program.intermediate('swapped_weight', [channels, outputs * 9]);
      program.dispatch(swapChannels.plan({ outputs, channels, taps: 9 }), [weight, swapped]);
      const back = { height: map.height, width: map.width, xHeight: height, xWidth: width, transposed: true };
      tiles(dy, back, (unfolded, first) => {
        const size = { M: unfolded.rows, N: channels, K: 9 * outputs };
        const out = range(into, first, unfolded.rows);
        dispatchGemm(program, { layout: 'NT', ...size }, { a: unfolded, b: swapped, out });
      });
    });
  });
  return result;
}

/**
 * Transposed convolution whose kernel is as wide as its stride, so that the blocks it writes do not overlap.
 * @param weight f32 [channels, outputs, k, k]
 * @param bias f32 [outputs]
 * @returns the map of `outputs` channels and k times the height and width
 */
export function transposedConvolution(graph: Graph, map: FeatureMap, weight: Tensor, bias: Tensor): FeatureMap {
  const { program } = graph;
  const { values: x, pictures, height, width } = map;
  const [channels, outputs, k] = weight.shape;
  assertMap('transposedConvolution', map);
  assertFloat32('transposedConvolution', weight, bias);
  if (channels !== x.columns || bias.elements !== outputs || weight.elements !== channels * outputs * k * k) {
    throw new GpuError(
      `transposedConvolution: ${x.name} [${x.shape}] does not fit ${weight.name} [${weight.shape}] with ${bias.name} [${bias.shape}]`,
    );
  }
  const size = { pictures, height, width, channels: outputs, k };
  const wide = outputs * k * k;
  const blocks = program.intermediate('blocks', [x.rows, wide]);
  dispatchGemm(program, { layout: 'NN', M: x.rows, N: wide, K: channels }, { a: x, b: weight, out: blocks });
  const y = program.intermediate('transposed_convolution', [x.rows * k * k, outputs]);
  program.dispatch(depthToSpace.plan(size), [blocks, bias, y]);
  if (graph.needsGradient(x, weight, bias)) {
    graph.onBackward([y], ([dy]) => {
      if (!dy) return;
      const dblocks = program.intermediate('d_blocks', [x.rows, wide]);
      program.dispatch(depthToSpaceBackward.plan(size), [dy, dblocks]);
      graph.contribute(weight, (into) => {
        dispatchSplitGemm(program, { layout: 'TN', M: channels, N: wide, K: x.rows }, { a: x, b: dblocks, out: into });
      });
      graph.contribute(bias, (into) => columnSums(program, dy, into));
      graph.contribute(x, (into) => {
        const product = { layout: 'NT', M: x.rows, N: channels, K: wide } as const;
        dispatchGemm(program, product, { a: dblocks, b: weight, out: into });
      });
    });
  }
  return { values: y, pictures, height: k * height, width: k * width };
}
