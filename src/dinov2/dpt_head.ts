/**
 * The DPT head (spec §6.5.3): four levels of frozen tokens to one map, for depth and canopy height. Parameters have the
 * names and shapes of the published heads. Everything is float32.
 */

import { UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { concatColumns } from '../tensor/concat_columns.js';
import { convolution3x3, transposedConvolution } from '../tensor/convolution.js';
import type { FeatureMap } from '../tensor/feature_map.js';
import type { Graph } from '../tensor/graph.js';
import { type LinearLayer, linear, mlp } from '../tensor/linear.js';
import type { ParameterSpec } from '../tensor/parameters.js';
import { relu } from '../tensor/relu.js';
import { scaledResidual } from '../tensor/residual.js';
import { resizeBilinear } from '../tensor/resize_bilinear.js';
import { assertFloat32Graph, assertLevels, type TokenLevels } from './dense_head.js';
import type { Weights } from './vit.js';

export interface DptConfig {
  /** Values of a token, a multiple of 8. */
  readonly dim: number;
  /** Channels of the fusion blocks, a multiple of 8; 256 by default. */
  readonly channels?: number;
  /** Added to the rectified result: the least depth in metres, 0 for canopy height. */
  readonly minDepth: number;
}

const CHANNELS = 256;

/** Channels of the last hidden map. */
const LAST_CHANNELS = 32;

const LEVELS = 4;

function sizesOf({ dim, channels = CHANNELS }: DptConfig): { levels: readonly number[]; channels: number } {
  if (dim % 8 !== 0 || channels % 8 !== 0) {
    throw new UsageError(`a DPT head over ${dim} values and ${channels} channels: both must be multiples of 8`);
  }
  return { levels: [dim / 8, dim / 4, dim / 2, dim], channels };
}

/** @throws UsageError for sizes that are not multiples of 8 */
export function dptParameters(config: DptConfig): ParameterSpec[] {
  const { dim } = config;
  const { levels, channels } = sizesOf(config);
  const specs: ParameterSpec[] = [];
  const add = (name: string, ...shape: number[]): void => void specs.push({ name: `decode_head.${name}`, shape });
  const layer = (name: string, ...shape: number[]): void => {
    add(`${name}.weight`, ...shape);
    add(`${name}.bias`, shape[0]);
  };
  for (const [i, width] of levels.entries()) layer(`reassemble_blocks.projects.${i}.conv`, width, dim, 1, 1);
  [4, 2].forEach((k, i) => {
    add(`reassemble_blocks.resize_layers.${i}.weight`, levels[i], levels[i], k, k);
    add(`reassemble_blocks.resize_layers.${i}.bias`, levels[i]);
  });
  layer('reassemble_blocks.resize_layers.3', dim, dim, 3, 3);
  for (const i of levels.keys()) layer(`reassemble_blocks.readout_projects.${i}.0`, dim, 2 * dim);
  for (const [i, width] of levels.entries()) add(`convs.${i}.conv.weight`, channels, width, 3, 3);
  for (let block = 0; block < LEVELS; block++) {
    layer(`fusion_blocks.${block}.project.conv`, channels, channels, 1, 1);
    // The first block has nothing to fuse, so it lacks the unit for it.
    for (const unit of block === 0 ? [2] : [1, 2]) {
      for (const conv of [1, 2]) {
        add(`fusion_blocks.${block}.res_conv_unit${unit}.conv${conv}.conv.weight`, channels, channels, 3, 3);
      }
    }
  }
  layer('project.conv', channels, channels, 3, 3);
  layer('conv_depth.head.0', channels / 2, channels, 3, 3);
  layer('conv_depth.head.2', LAST_CHANNELS, channels / 2, 3, 3);
  layer('conv_depth.head.4', 1, LAST_CHANNELS, 1, 1);
  return specs;
}

/** One run of the head: its weights and the graph it is recorded into. */
class DptRecording {
  constructor(
    private readonly graph: Graph,
    private readonly weights: Weights,
  ) {}

  private parameter(name: string): Tensor {
    return this.weights.get(`decode_head.${name}`);
  }

  /** 3 x 3, with a bias where the layer has one. */
  convolution(map: FeatureMap, name: string, stride: 1 | 2 = 1): FeatureMap {
    const bias = this.weights.optional(`decode_head.${name}.bias`);
    return convolution3x3(this.graph, map, this.parameter(`${name}.weight`), { bias, stride });
  }

  /** 1 x 1, with bias. */
  projection(map: FeatureMap, name: string): FeatureMap {
    const values = linear(this.graph, map.values, this.parameter(`${name}.weight`), this.parameter(`${name}.bias`));
    return { ...map, values };
  }

  relu(map: FeatureMap): FeatureMap {
    return { ...map, values: relu(this.graph, map.values) };
  }

  twice(map: FeatureMap): FeatureMap {
    const size = { height: 2 * map.height, width: 2 * map.width, alignCorners: true };
    return resizeBilinear(this.graph, map, size);
  }

  private sum(a: FeatureMap, b: FeatureMap): FeatureMap {
    return { ...a, values: scaledResidual(this.graph, a.values, b.values) };
  }

  /** Tokens of one level as a map of its own width, at 4, 2, 1 or 1/2 times the patch grid. */
  reassembled(tokens: TokenLevels, level: number): FeatureMap {
    const { graph } = this;
    const layer = (name: string): LinearLayer => ({
      weight: this.parameter(`reassemble_blocks.${name}.weight`),
      bias: this.parameter(`reassemble_blocks.${name}.bias`),
    });
    const both = concatColumns(graph, [tokens.patches[level], tokens.cls[level]]);
    const values = mlp(graph, both, [layer(`readout_projects.${level}.0`), layer(`projects.${level}.conv`)]);
    const { pictures, height, width } = tokens;
    const map = { values, pictures, height, width };
    const resize = `reassemble_blocks.resize_layers.${level}`;
    if (level === 2) return map;
    if (level === 3) return this.convolution(map, resize, 2);
    return transposedConvolution(graph, map, this.parameter(`${resize}.weight`), this.parameter(`${resize}.bias`));
  }

  /** u + conv(relu(conv(relu(u)))). */
  private residual(map: FeatureMap, unit: string): FeatureMap {
    const inner = this.convolution(this.relu(map), `${unit}.conv1.conv`);
    return this.sum(map, this.convolution(this.relu(inner), `${unit}.conv2.conv`));
  }

  /**
   * Adds a shallower level, refines, and doubles the size. The official head projects after it has doubled; a 1 x 1
   * convolution and a resize may change places, and this way the projection is a quarter of the work.
   */
  fused(map: FeatureMap, block: number, skip: FeatureMap | undefined): FeatureMap {
    const name = `fusion_blocks.${block}`;
    let x = map;
    if (skip) {
      const size = { height: map.height, width: map.width, alignCorners: false };
      x = this.sum(x, this.residual(resizeBilinear(this.graph, skip, size), `${name}.res_conv_unit1`));
    }
    return this.twice(this.projection(this.residual(x, `${name}.res_conv_unit2`), `${name}.project.conv`));
  }
}

/**
 * @param tokens four levels that did not go through the final norm, with CLS
 * @returns one value a pixel, at least `minDepth`: [pictures * H * W, 1] with H = 32 ceil(height / 2), W alike
 */
export function dptHead(graph: Graph, config: DptConfig, weights: Weights, tokens: TokenLevels): FeatureMap {
  sizesOf(config);
  assertFloat32Graph('DPT head', graph);
  assertLevels('DPT head', tokens, { dim: config.dim, levels: LEVELS, cls: true });
  return graph.program.scope('decode_head', () => {
    const recording = new DptRecording(graph, weights);
    const levels = tokens.patches.map((_, level) =>
      graph.program.scope(`levels.${level}`, () =>
        recording.convolution(recording.reassembled(tokens, level), `convs.${level}.conv`),
      ),
    );
    let map = levels[LEVELS - 1];
    for (let block = 0; block < LEVELS; block++) {
      const skip = block === 0 ? undefined : levels[LEVELS - 1 - block];
      map = graph.program.scope(`fusion_blocks.${block}`, () => recording.fused(map, block, skip));
    }
    map = recording.relu(recording.convolution(map, 'project.conv'));
    map = recording.twice(recording.convolution(map, 'conv_depth.head.0'));
    map = recording.relu(recording.convolution(map, 'conv_depth.head.2'));
    map = recording.projection(map, 'conv_depth.head.4');
    return { ...map, values: relu(graph, map.values, config.minDepth) };
  });
}
