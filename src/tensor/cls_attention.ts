/** Attention weights of the CLS token, for pictures of what a head looks at; of frozen networks, so it has no backward. */

import * as clsAttentionKernel from '../../kernels/cls_attention.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { type PackedSequences, startOfGroup, totalRows } from './sequences.js';

/**
 * softmax(q kᵀ / √headDim) of token 0 of every sequence of a group, over the tokens of that sequence (spec §1.3).
 * @param qkv [rows, 3 D]; a row holds all q heads, all k heads, all v heads
 * @param heads D / heads is the head dim: a multiple of 4 up to 128
 * @param sequences must tile the rows
 * @param group which of them; default the first
 * @returns f32 [count, heads, length] of that group; each row sums to 1
 * @throws GpuError for shapes that do not fit, or where a gradient would have to flow through it
 */
export function clsAttention(graph: Graph, qkv: Tensor, heads: number, sequences: PackedSequences, group = 0): Tensor {
  if (graph.needsGradient(qkv)) throw new GpuError('clsAttention is for frozen networks: record it without gradient');
  if (qkv.rows !== totalRows(sequences) || qkv.columns % (3 * heads) !== 0) {
    const packed = sequences.map(({ count, length }) => `${count} × ${length}`).join(' + ');
    throw new GpuError(
      `${qkv.name} [${qkv.shape}] is not q, k and v of ${heads} heads for sequences of ${packed} tokens`,
    );
  }
  const { program } = graph;
  const { count, length } = sequences[group];
  const weights = program.intermediate('cls_attention', [count, heads, length]);
  const firstRow = startOfGroup(sequences, group);
  const size = { firstRow, count, length, heads, headDim: qkv.columns / (3 * heads), storage: qkv.storage };
  program.dispatch(clsAttentionKernel.plan(size), [qkv, weights]);
  return weights;
}
