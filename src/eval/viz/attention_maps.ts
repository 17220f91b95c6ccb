/**
 * What the CLS token attends to, head by head, in one block: softmax(q_cls kᵀ / √head dim) from that block's own q and k
 * (the pictures of the DINO papers). Blocks after it are not run.
 */

import type { VitConfig } from '../../dinov2/vit.js';
import { UsageError } from '../../errors.js';
import type { Gpu } from '../../gpu/device.js';
import { clsAttention } from '../../tensor/cls_attention.js';
import { layerNorm } from '../../tensor/layer_norm.js';
import { linear } from '../../tensor/linear.js';
import type { LoadedModel } from '../model_file.js';
import type { Frame } from './frames.js';
import { type DenseOptions, runPacked } from './packed_frames.js';

/** The attention of CLS over one picture. */
export interface AttentionMap {
  readonly heads: number;
  readonly rows: number;
  readonly columns: number;
  /** [heads, rows, columns]: what goes to each patch. */
  readonly patches: Float32Array;
  /** [heads]: what goes to CLS itself. */
  readonly cls: Float32Array;
  /** [heads, registers]: what goes to each register. Not shown, but with the rest a head's weights sum to 1. */
  readonly registers: Float32Array;
}

export interface AttentionOptions extends DenseOptions {
  /** From 0. Default: the last. */
  readonly block?: number;
}

/** @throws UsageError for a block that is not there */
export function checkBlock(vit: VitConfig, block: number): void {
  if (Number.isInteger(block) && block >= 0 && block < vit.depth) return;
  throw new UsageError(`block ${block} is not there: the network has blocks 0 to ${vit.depth - 1}`);
}

/**
 * @returns a map a frame, in their order
 * @throws UsageError for a block that is not there
 */
export async function attentionMaps(
  gpu: Gpu,
  model: LoadedModel,
  frames: readonly Frame[],
  options: AttentionOptions,
): Promise<AttentionMap[]> {
  const { vit } = model;
  const { block = vit.depth - 1 } = options;
  checkBlock(vit, block);
  const name = `blocks.${block}`;
  const maps = await runPacked(gpu, model, frames, options, {
    depth: block,
    record: (graph, weights, tokens, sequences) => {
      const [scale, shift] = [weights.get(`${name}.norm1.weight`), weights.get(`${name}.norm1.bias`)];
      const normed = layerNorm(graph, tokens, scale, shift);
      const [weight, bias] = [weights.get(`${name}.attn.qkv.weight`), weights.optional(`${name}.attn.qkv.bias`)];
      const qkv = linear(graph, normed, weight, bias);
      return sequences.map((_, group) => clsAttention(graph, qkv, vit.numHeads, sequences, group));
    },
  });
  return frames.map(({ image }, i) => splitTokens(vit, maps[i], image.height, image.width));
}

/** @param weights [heads, tokens]: CLS, registers, patches */
function splitTokens(vit: VitConfig, weights: Float32Array, height: number, width: number): AttentionMap {
  const { numHeads: heads, registers, patchSize } = vit;
  const [rows, columns] = [height / patchSize, width / patchSize];
  const first = 1 + registers;
  const length = first + rows * columns;
  const part = (from: number, to: number): Float32Array => {
    const values = new Float32Array(heads * (to - from));
    for (let h = 0; h < heads; h++) values.set(weights.subarray(h * length + from, h * length + to), h * (to - from));
    return values;
  };
  return { heads, rows, columns, cls: part(0, 1), registers: part(1, first), patches: part(first, length) };
}

/** The mean of all heads, [rows, columns]. */
export function meanMap({ heads, rows, columns, patches }: AttentionMap): Float32Array {
  const area = rows * columns;
  return Float32Array.from({ length: area }, (_, p) => {
    let sum = 0;
    for (let h = 0; h < heads; h++) sum += patches[h * area + p];
    return sum / heads;
  });
}
