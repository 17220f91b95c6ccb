/** CLS and mean patch token of every sequence, with gradient. */

import * as poolTokensKernel from '../../kernels/pool_tokens.js';
import * as backwardKernel from '../../kernels/pool_tokens_backward.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { SequenceGroup } from './sequences.js';

/**
 * @param x [count length, D], sequences of one length: CLS, other special tokens, patches
 * @param first tokens before the patches of a sequence: CLS and registers
 * @returns [count, 2 D]: CLS, then the mean of the patch tokens
 * @throws GpuError where there are no patches, or x has other rows
 */
export function poolTokens(graph: Graph, x: Tensor, { count, length }: SequenceGroup, first: number): Tensor {
  const { program } = graph;
  if (x.rows !== count * length || first < 1 || first >= length) {
    throw new GpuError(
      `poolTokens: ${x.name} [${x.shape}] is not ${count} sequences of ${length} tokens, ${first} of them before the patches`,
    );
  }
  const size = { count, length, first, columns: x.columns, storage: x.storage };
  const out = program.intermediate('pooled_tokens', [count, 2 * x.columns], x.dtype);
  program.dispatch(poolTokensKernel.plan(size, program.gpu.capabilities), [x, out]);
  if (graph.needsGradient(x)) {
    graph.onBackward([out], ([dout]) => {
      if (!dout) return;
      graph.contribute(x, (into) => program.dispatch(backwardKernel.plan(size), [dout, into]));
    });
  }
  return out;
}
