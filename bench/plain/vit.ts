/**
 * The vision transformer (spec §1) over one crop group, operator by operator: what modules of a framework without fusion
 * would dispatch. Stochastic depth computes every sequence and multiplies the branch by a mask.
 */

import { UsageError } from '../../src/errors.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { type CropGroup, finalNorm, type VitConfig, type Weights } from '../../src/dinov2/vit.js';
import type { Graph } from '../../src/tensor/graph.js';
import { layerNorm } from '../../src/tensor/layer_norm.js';
import { resizePosition } from '../../src/tensor/position.js';
import type { SequenceGroup } from '../../src/tensor/sequences.js';
import { swiglu } from '../../src/tensor/swiglu.js';
import { embedPatches, packTokens } from '../../src/tensor/tokens.js';
import { attention } from './attention.js';
import { add, dropPath, layerScale, linear, mlp, type SequenceMask } from './operators.js';

/** The mask of residual branch `2 block` (attention) or `2 block + 1` (feed-forward), or none. */
export type BranchMasks = (branch: number) => SequenceMask | undefined;

/** @returns [tokens of the group, D], after the final norm of all of them */
export function plainForward(
  graph: Graph,
  config: VitConfig,
  weights: Weights,
  group: CropGroup,
  masks: BranchMasks = () => undefined,
): Tensor {
  const { program } = graph;
  const P = config.patchSize;
  const [height, width] = [group.height / P, group.width / P];
  const sequences = { count: group.count, length: 1 + config.registers + height * width };
  let x = program.scope('embed', () => {
    const mode = { offset: config.interpolateOffset, antialias: config.interpolateAntialias };
    const position = resizePosition(graph, weights.get('pos_embed'), [height, width], mode);
    const [weight, bias] = [weights.get('patch_embed.proj.weight'), weights.optional('patch_embed.proj.bias')];
    const embedded = embedPatches(graph, [group], weight, bias, P);
    const tokens = { count: group.count, patches: height * width, position, mask: group.mask };
    return packTokens(graph, embedded, [tokens], {
      cls: weights.get('cls_token'),
      registers: weights.optional('register_tokens'),
      mask: weights.get('mask_token'),
    });
  });
  for (let i = 0; i < config.depth; i++) {
    x = program.scope(`blocks.${i}`, () => block(graph, config, weights, i, x, sequences, masks));
  }
  return finalNorm(graph, weights, x);
}

function block(
  graph: Graph,
  config: VitConfig,
  weights: Weights,
  index: number,
  input: Tensor,
  sequences: SequenceGroup,
  masks: BranchMasks,
): Tensor {
  const { program } = graph;
  const name = `blocks.${index}`;
  const layer = (part: string) => ({
    weight: weights.get(`${name}.${part}.weight`),
    bias: weights.optional(`${name}.${part}.bias`),
  });
  const norm = (part: string, x: Tensor): Tensor =>
    layerNorm(graph, x, weights.get(`${name}.${part}.weight`), weights.get(`${name}.${part}.bias`));
  const residual = (stream: Tensor, branch: Tensor, part: 'ls1' | 'ls2', number: number): Tensor => {
    const gamma = weights.optional(`${name}.${part}.gamma`);
    const scaled = gamma ? layerScale(graph, branch, gamma) : branch;
    const mask = masks(number);
    return add(graph, stream, mask ? dropPath(graph, scaled, mask, sequences.length) : scaled);
  };

  const afterAttention = program.scope('attn', () => {
    const qkv = linear(graph, norm('norm1', input), layer('attn.qkv'));
    const mixed = attention(graph, qkv, config.numHeads, sequences);
    return residual(input, linear(graph, mixed, layer('attn.proj')), 'ls1', 2 * index);
  });
  return program.scope('mlp', () => {
    const normed = norm('norm2', afterAttention);
    return residual(afterAttention, feedForward(graph, config, normed, layer), 'ls2', 2 * index + 1);
  });
}

function feedForward(
  graph: Graph,
  { feedForward: kind }: VitConfig,
  x: Tensor,
  layer: (part: string) => Parameters<typeof linear>[2],
): Tensor {
  if (kind === 'mlp') return mlp(graph, x, [layer('mlp.fc1'), layer('mlp.fc2')]);
  if (kind === 'swiglu') return linear(graph, swiglu(graph, linear(graph, x, layer('mlp.w12'))), layer('mlp.w3'));
  throw new UsageError(`the plain step has no feed-forward layer ${kind}; use mlp or swiglu`);
}
