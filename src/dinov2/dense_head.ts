/**
 * Linear heads on frozen patch tokens: semantic segmentation (spec §6.6.1) and monocular depth (spec §6.5.2). Parameters
 * have the names and shapes of the published heads. Everything is float32.
 */

import { GpuError, UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { batchNorm } from '../tensor/batch_norm.js';
import { concatColumns } from '../tensor/concat_columns.js';
import { type DepthRange, depthBins } from '../tensor/depth_bins.js';
import { assertFloat32, type FeatureMap } from '../tensor/feature_map.js';
import type { Graph } from '../tensor/graph.js';
import { linear } from '../tensor/linear.js';
import type { ParameterSpec } from '../tensor/parameters.js';
import { resizeBilinear } from '../tensor/resize_bilinear.js';
import type { Weights } from './vit.js';

/** Frozen tokens of some pictures, shallow to deep. */
export interface TokenLevels {
  /** f32 [pictures, D], one a level; segmentation reads none. */
  readonly cls: readonly Tensor[];
  /** f32 [pictures * height * width, D], one a level, row by row of each picture. */
  readonly patches: readonly Tensor[];
  readonly pictures: number;
  /** Patches down and across. */
  readonly height: number;
  readonly width: number;
}

/** @throws GpuError where tokens are missing, of another size, or not float32 */
export function assertLevels(
  head: string,
  { cls, patches, pictures, height, width }: TokenLevels,
  expected: { readonly dim: number; readonly levels: number; readonly cls: boolean },
): void {
  const { dim, levels } = expected;
  const wanted: (readonly [string, readonly Tensor[], number])[] = [
    ['patch tokens', patches, pictures * height * width],
    ...(expected.cls ? [['CLS tokens', cls, pictures] as const] : []),
  ];
  for (const [what, tensors, rows] of wanted) {
    if (tensors.length !== levels) throw new GpuError(`${head}: ${tensors.length} levels of ${what}, not ${levels}`);
    assertFloat32(head, ...tensors);
    for (const tensor of tensors) {
      if (tensor.rows !== rows || tensor.columns !== dim) {
        throw new GpuError(`${head}: ${what} ${tensor.name} [${tensor.shape}] are not [${rows}, ${dim}]`);
      }
    }
  }
}

/** @throws GpuError for a graph of half activations */
export function assertFloat32Graph(head: string, graph: Graph): void {
  if (graph.activations !== 'f32') throw new GpuError(`${head}: record dense heads into a float32 graph`);
}

// --- Segmentation ------------------------------------------------------------------------------------------------

export interface SegmentationConfig {
  /** Values of a token. */
  readonly dim: number;
  /** 1 (linear) or 4 (+ms). */
  readonly levels: number;
  readonly classes: number;
}

export function segmentationParameters({ dim, levels, classes }: SegmentationConfig): ParameterSpec[] {
  const channels = dim * levels;
  return [
    { name: 'decode_head.bn.weight', shape: [channels] },
    { name: 'decode_head.bn.bias', shape: [channels] },
    { name: 'decode_head.conv_seg.weight', shape: [classes, channels, 1, 1] },
    { name: 'decode_head.conv_seg.bias', shape: [classes] },
  ];
}

/** Running statistics: no parameters, so they need a store of their own that is never made trainable. */
export function segmentationState({ dim, levels }: SegmentationConfig): ParameterSpec[] {
  return ['running_mean', 'running_var'].map((name) => ({ name: `decode_head.bn.${name}`, shape: [dim * levels] }));
}

/**
 * Batch norm, then a 1 x 1 convolution to the classes.
 * @param tokens patch tokens that went through the final norm
 * @param mode `training` normalises by the batch and moves the running statistics, `evaluation` uses these
 * @returns logits [pictures * height * width, classes] on the patch grid; resize them (corners not aligned) to the picture
 */
export function segmentationHead(
  graph: Graph,
  config: SegmentationConfig,
  weights: Weights,
  state: Weights,
  tokens: TokenLevels,
  mode: 'training' | 'evaluation',
): FeatureMap {
  assertFloat32Graph('segmentation head', graph);
  assertLevels('segmentation head', tokens, { ...config, cls: false });
  const { patches, pictures, height, width } = tokens;
  const values = graph.program.scope('decode_head', () => {
    const x = patches.length > 1 ? concatColumns(graph, patches) : patches[0];
    const norm = {
      weight: weights.get('decode_head.bn.weight'),
      bias: weights.get('decode_head.bn.bias'),
      runningMean: state.get('decode_head.bn.running_mean'),
      runningVar: state.get('decode_head.bn.running_var'),
    };
    return linear(
      graph,
      batchNorm(graph, x, norm, mode),
      weights.get('decode_head.conv_seg.weight'),
      weights.get('decode_head.conv_seg.bias'),
    );
  });
  return { values, pictures, height, width };
}

// --- Depth -------------------------------------------------------------------------------------------------------

export interface LinearDepthConfig extends DepthRange {
  /** Values of a token. */
  readonly dim: number;
  /** 1 (linear) or 4 (linear4). */
  readonly levels: number;
  /** 256 by default. */
  readonly bins?: number;
}

const BINS = 256;

/** How much finer than the patch grid the depth map of the linear head is. */
const DEPTH_SCALE = 4;

export function linearDepthParameters({ dim, levels, bins = BINS }: LinearDepthConfig): ParameterSpec[] {
  return [
    { name: 'decode_head.conv_depth.weight', shape: [bins, 2 * dim * levels, 1, 1] },
    { name: 'decode_head.conv_depth.bias', shape: [bins] },
  ];
}

/**
 * CLS beside each patch token, levels side by side, a 1 x 1 convolution to bins, four times finer, depth from bins.
 * The official head makes the tokens finer before the convolution; both are linear and the shares of a resize add up to 1,
 * so the order does not matter to the result, and this one multiplies and keeps a sixteenth.
 * @param tokens levels that did not go through the final norm, with CLS
 * @returns depth in metres [pictures * 4 height * 4 width, 1]
 * @throws UsageError for a range without depth
 */
export function linearDepthHead(
  graph: Graph,
  config: LinearDepthConfig,
  weights: Weights,
  tokens: TokenLevels,
): FeatureMap {
  if (!(config.max > config.min)) throw new UsageError(`depths from ${config.min} to ${config.max}: no range`);
  assertFloat32Graph('linear depth head', graph);
  assertLevels('linear depth head', tokens, { ...config, cls: true });
  const { cls, patches, pictures, height, width } = tokens;
  return graph.program.scope('decode_head', () => {
    const x = concatColumns(
      graph,
      patches.flatMap((level, i) => [level, cls[i]]),
    );
    const coarse = linear(
      graph,
      x,
      weights.get('decode_head.conv_depth.weight'),
      weights.get('decode_head.conv_depth.bias'),
    );
    const fine = resizeBilinear(
      graph,
      { values: coarse, pictures, height, width },
      { height: DEPTH_SCALE * height, width: DEPTH_SCALE * width, alignCorners: false },
    );
    return { ...fine, values: depthBins(graph, fine.values, config) };
  });
}
