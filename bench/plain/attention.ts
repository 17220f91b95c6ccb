/** Multi-head self-attention as four operators over scores that lie in memory, [sequences, heads, L, L]. */

import { type BatchedGemmParams, type MatrixStrides, plan as batchedGemm } from '../../kernels/plain/batched_gemm.js';
import * as softmaxKernel from '../../kernels/plain/softmax.js';
import * as softmaxBackward from '../../kernels/plain/softmax_backward.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import type { Graph } from '../../src/tensor/graph.js';
import type { SequenceGroup } from '../../src/tensor/sequences.js';

/**
 * softmax(q kᵀ / √headDim) v inside each sequence. Both products read and write the heads where they lie, so nothing is
 * permuted; scores are dropped after the softmax, whose result is kept for the backward pass.
 * @param qkv [count length, 3 D]; a row holds all q heads, all k heads, all v heads
 * @returns [count length, D], the heads side by side
 */
export function attention(graph: Graph, qkv: Tensor, heads: number, { count, length }: SequenceGroup): Tensor {
  const { program } = graph;
  const { capabilities } = program.gpu;
  const width = qkv.columns / 3;
  const headDim = width / heads;
  const alpha = 1 / Math.sqrt(headDim);
  const part = (first: number, row: number): MatrixStrides => ({ first, sequence: length * row, head: headDim, row });
  const [q, k, v] = [0, width, 2 * width].map((first) => part(first, 3 * width));
  const mixed = part(0, width);
  const square = { first: 0, sequence: heads * length * length, head: length * length, row: length };
  const shape = [count, heads, length, length];
  /** Sums over a head's columns give [L, L], sums over tokens [L, headDim]. */
  const multiply = (
    over: 'columns' | 'tokens',
    operands: Pick<BatchedGemmParams, 'layout' | 'a' | 'b' | 'c'>,
    tensors: readonly Tensor[],
    factor = 1,
  ): void => {
    const [N, K] = over === 'columns' ? [length, headDim] : [headDim, length];
    const params = { ...operands, sequences: count, heads, M: length, N, K, alpha: factor };
    program.dispatch(batchedGemm(params, capabilities), tensors);
  };
  const rows = { rows: count * heads * length, columns: length };

  const scores = program.intermediate('scores', shape);
  multiply('columns', { layout: 'NT', a: q, b: k, c: square }, [qkv, qkv, scores], alpha);
  const probabilities = program.intermediate('probabilities', shape);
  program.dispatch(softmaxKernel.plan(rows, capabilities), [scores, probabilities]);
  const out = program.intermediate('attention', [count * length, width]);
  multiply('tokens', { layout: 'NN', a: square, b: v, c: mixed }, [probabilities, qkv, out]);
  if (!graph.needsGradient(qkv)) return out;

  graph.onBackward([out], ([dout]) => {
    if (!dout) return;
    graph.contribute(qkv, (into) => {
      multiply('tokens', { layout: 'TN', a: square, b: mixed, c: v }, [probabilities, dout, into]);
      const dprobabilities = program.intermediate('d_probabilities', shape);
      multiply('columns', { layout: 'NT', a: mixed, b: v, c: square }, [dout, qkv, dprobabilities]);
      const dscores = program.intermediate('d_scores', shape);
      program.dispatch(softmaxBackward.plan(rows, capabilities), [probabilities, dprobabilities, dscores]);
      multiply('tokens', { layout: 'NN', a: square, b: k, c: q }, [dscores, qkv, into], alpha);
      multiply('tokens', { layout: 'TN', a: square, b: q, c: k }, [dscores, qkv, into], alpha);
    });
  });
  return out;
}
