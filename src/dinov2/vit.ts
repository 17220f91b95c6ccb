/**
 * The DINOv2 vision transformer (spec §1): one forward pass over any number of crop groups of different sizes, packed into
 * one matrix of tokens. Linear layers and norms see one tall matrix; attention stays inside each sequence.
 */

import { UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { attention } from '../tensor/attention.js';
import type { Graph } from '../tensor/graph.js';
import { layerNorm } from '../tensor/layer_norm.js';
import { linear, mlp } from '../tensor/linear.js';
import type { ParameterSpec } from '../tensor/parameters.js';
import { resizePosition } from '../tensor/position.js';
import { type KeptRows, layerScale, scaledResidual } from '../tensor/residual.js';
import type { RowSelection } from '../tensor/rows.js';
import { type PackedSequences, startOfGroup } from '../tensor/sequences.js';
import { swiglu } from '../tensor/swiglu.js';
import { embedPatches, type ImageGroup, packTokens } from '../tensor/tokens.js';

export type FeedForward = 'mlp' | 'swiglu' | 'identity';

export interface VitConfig {
  /** Side in pixels of the square picture that the position table was made for. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly embedDim: number;
  readonly depth: number;
  readonly numHeads: number;
  readonly mlpRatio: number;
  readonly feedForward: FeedForward;
  readonly qkvBias: boolean;
  readonly projBias: boolean;
  readonly ffnBias: boolean;
  /** Initial value of LayerScale, or undefined for none. */
  readonly layerScale: number | undefined;
  readonly registers: number;
  readonly interpolateOffset: number;
  readonly interpolateAntialias: boolean;
}

/** Published sizes (spec §1.1). */
export const VIT_SIZES = {
  vit_small: { embedDim: 384, depth: 12, numHeads: 6, mlpRatio: 4 },
  vit_base: { embedDim: 768, depth: 12, numHeads: 12, mlpRatio: 4 },
  vit_large: { embedDim: 1024, depth: 24, numHeads: 16, mlpRatio: 4 },
  vit_giant2: { embedDim: 1536, depth: 40, numHeads: 24, mlpRatio: 4 },
} as const;

/** The names that the official configurations use for the feed-forward layers. */
export function feedForwardNamed(name: string): FeedForward {
  if (name === 'mlp' || name === 'identity') return name;
  if (name === 'swiglu' || name === 'swiglufused') return 'swiglu';
  throw new UsageError(`ffn_layer ${name} is unknown; use mlp, swiglu, swiglufused or identity`);
}

/** Width of the SwiGLU's gate and value: two thirds of the MLP's width, rounded up to a multiple of 8. */
export function swigluHidden(config: VitConfig): number {
  return Math.floor((Math.trunc((Math.trunc(config.embedDim * config.mlpRatio) * 2) / 3) + 7) / 8) * 8;
}

/** Parameters by their names in the official state dict (spec §1.10, flat blocks), in its order. */
export function vitParameters(config: VitConfig, prefix = ''): ParameterSpec[] {
  const { embedDim: D, depth, patchSize: P, registers } = config;
  const side = Math.floor(config.imageSize / P);
  const specs: ParameterSpec[] = [];
  const add = (name: string, ...shape: number[]): void => void specs.push({ name: prefix + name, shape });
  add('cls_token', 1, 1, D);
  add('pos_embed', 1, 1 + side * side, D);
  if (registers > 0) add('register_tokens', 1, registers, D);
  add('mask_token', 1, D);
  add('patch_embed.proj.weight', D, 3, P, P);
  add('patch_embed.proj.bias', D);
  const layer = (name: string, outputs: number, inputs: number, bias: boolean): void => {
    add(`${name}.weight`, outputs, inputs);
    if (bias) add(`${name}.bias`, outputs);
  };
  for (let i = 0; i < depth; i++) {
    const block = `blocks.${i}`;
    add(`${block}.norm1.weight`, D);
    add(`${block}.norm1.bias`, D);
    layer(`${block}.attn.qkv`, 3 * D, D, config.qkvBias);
    layer(`${block}.attn.proj`, D, D, config.projBias);
    if (config.layerScale !== undefined) add(`${block}.ls1.gamma`, D);
    add(`${block}.norm2.weight`, D);
    add(`${block}.norm2.bias`, D);
    if (config.feedForward === 'mlp') {
      const hidden = Math.trunc(D * config.mlpRatio);
      layer(`${block}.mlp.fc1`, hidden, D, config.ffnBias);
      layer(`${block}.mlp.fc2`, D, hidden, config.ffnBias);
    } else if (config.feedForward === 'swiglu') {
      const hidden = swigluHidden(config);
      layer(`${block}.mlp.w12`, 2 * hidden, D, config.ffnBias);
      layer(`${block}.mlp.w3`, D, hidden, config.ffnBias);
    }
    if (config.layerScale !== undefined) add(`${block}.ls2.gamma`, D);
  }
  add('norm.weight', D);
  add('norm.bias', D);
  return specs;
}

/** The weights of one network by name; `optional` ones may be absent (biases, LayerScale, registers). */
export interface Weights {
  get(name: string): Tensor;
  optional(name: string): Tensor | undefined;
}

/** The weights of a store under a prefix such as `backbone.`. */
export function weightsOf(store: { has(name: string): boolean; get(name: string): Tensor }, prefix = ''): Weights {
  return {
    get: (name) => store.get(prefix + name),
    optional: (name) => (store.has(prefix + name) ? store.get(prefix + name) : undefined),
  };
}

export interface CropGroup extends ImageGroup {
  /** u32 [count, patches], not 0 where the mask token stands. */
  readonly mask?: Tensor;
}

export interface VitOptions {
  /** Stochastic depth: the rows that residual branch `2 block` (attention) or `2 block + 1` (feed-forward) is computed for. */
  readonly kept?: (branch: number) => (KeptRows & { readonly sequences: PackedSequences }) | undefined;
  /** Keeps only the input of each block for the backward pass, which then computes the block once more. */
  readonly checkpointing?: boolean;
  /** Blocks (from 0) whose output is returned as well. */
  readonly layers?: readonly number[];
}

export interface VitTokens {
  /** [tokens of all groups, D], before the final norm; each sequence is CLS, registers, patches. */
  readonly tokens: Tensor;
  /** One entry a crop group. */
  readonly sequences: PackedSequences;
  /** Outputs of the blocks asked for. */
  readonly layers: ReadonlyMap<number, Tensor>;
}

/** Patch embedding to the last block. Groups follow one another in the packed matrix. */
export function vitForward(
  graph: Graph,
  config: VitConfig,
  weights: Weights,
  groups: readonly CropGroup[],
  options: VitOptions = {},
): VitTokens {
  const { program } = graph;
  const P = config.patchSize;
  const mode = { offset: config.interpolateOffset, antialias: config.interpolateAntialias };
  let x = program.scope('embed', () => {
    const embedded = embedPatches(
      graph,
      groups,
      weights.get('patch_embed.proj.weight'),
      weights.optional('patch_embed.proj.bias'),
      P,
    );
    return packTokens(
      graph,
      embedded,
      groups.map(({ count, height, width, mask }) => ({
        count,
        patches: (height / P) * (width / P),
        position: resizePosition(graph, weights.get('pos_embed'), [height / P, width / P], mode),
        mask,
      })),
      {
        cls: weights.get('cls_token'),
        registers: weights.optional('register_tokens'),
        mask: weights.get('mask_token'),
      },
    );
  });
  const sequences = groups.map(({ count, height, width }) => ({
    count,
    length: 1 + config.registers + (height / P) * (width / P),
  }));
  const layers = new Map<number, Tensor>();
  for (let i = 0; i < config.depth; i++) {
    const input = x;
    const body = (): Tensor => block(graph, config, weights, i, input, sequences, options);
    x = program.scope(`blocks.${i}`, () => (options.checkpointing ? graph.checkpoint(body) : body()));
    if (options.layers?.includes(i)) layers.set(i, x);
  }
  return { tokens: x, sequences, layers };
}

function block(
  graph: Graph,
  config: VitConfig,
  weights: Weights,
  index: number,
  input: Tensor,
  sequences: PackedSequences,
  options: VitOptions,
): Tensor {
  const { program } = graph;
  const name = `blocks.${index}`;
  const layer = (part: string) => ({
    weight: weights.get(`${name}.${part}.weight`),
    bias: weights.optional(`${name}.${part}.bias`),
  });
  const norm = (part: string, x: Tensor, subset?: RowSelection): Tensor =>
    layerNorm(graph, x, weights.get(`${name}.${part}.weight`), weights.get(`${name}.${part}.bias`), subset);
  // Without gradient and without dropped rows, a branch is scaled and added in its last gemm.
  const residual = (stream: Tensor, gamma: Tensor | undefined, kept: KeptRows | undefined) =>
    gamma && !kept && !graph.needsGradient(stream, gamma) ? { stream, gamma } : undefined;

  const afterAttention = program.scope('attn', () => {
    const kept = options.kept?.(2 * index);
    const gamma = weights.optional(`${name}.ls1.gamma`);
    const qkv = layer('attn.qkv');
    const proj = layer('attn.proj');
    const into = residual(input, gamma, kept);
    const mixed = attention(
      graph,
      linear(graph, norm('norm1', input, kept?.subset), qkv.weight, qkv.bias),
      config.numHeads,
      kept?.sequences ?? sequences,
    );
    const scale = gamma && layerScale(graph, gamma, proj);
    const branch = linear(graph, mixed, proj.weight, proj.bias, into);
    return into ? branch : scaledResidual(graph, input, branch, scale, kept);
  });

  return program.scope('mlp', () => {
    const kept = options.kept?.(2 * index + 1);
    const gamma = weights.optional(`${name}.ls2.gamma`);
    const normed = norm('norm2', afterAttention, kept?.subset);
    if (config.feedForward === 'identity') {
      return scaledResidual(graph, afterAttention, normed, gamma && layerScale(graph, gamma), kept);
    }
    const into = residual(afterAttention, gamma, kept);
    const last = layer(config.feedForward === 'mlp' ? 'mlp.fc2' : 'mlp.w3');
    const scale = gamma && layerScale(graph, gamma, last);
    let branch: Tensor;
    if (config.feedForward === 'mlp') {
      branch = mlp(graph, normed, [layer('mlp.fc1'), last], into);
    } else {
      const w12 = layer('mlp.w12');
      const gated = swiglu(graph, linear(graph, normed, w12.weight, w12.bias));
      branch = linear(graph, gated, last.weight, last.bias, into);
    }
    return into ? branch : scaledResidual(graph, afterAttention, branch, scale, kept);
  });
}

/** The final norm, of all tokens or of the rows named. */
export function finalNorm(graph: Graph, weights: Weights, tokens: Tensor, subset?: RowSelection): Tensor {
  return graph.program.scope('norm', () =>
    layerNorm(graph, tokens, weights.get('norm.weight'), weights.get('norm.bias'), subset),
  );
}

/** Rows of the packed matrix that hold one token of every sequence of a group: token 0 is CLS. */
export function tokenRows(sequences: PackedSequences, group: number, token: number): number[] {
  const { count, length } = sequences[group];
  const start = startOfGroup(sequences, group);
  return Array.from({ length: count }, (_, s) => start + s * length + token);
}

/** Rows of all patch tokens of a group, sequence by sequence. */
export function patchRows(config: VitConfig, sequences: PackedSequences, group: number): number[] {
  const { count, length } = sequences[group];
  const start = startOfGroup(sequences, group);
  const first = 1 + config.registers;
  return Array.from({ length: count }, (_, s) =>
    Array.from({ length: length - first }, (_, p) => start + s * length + first + p),
  ).flat();
}
