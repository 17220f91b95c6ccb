/** Mean patch token of every sequence; for frozen features, so it has no backward. */

import * as tokenMeansKernel from '../../kernels/token_means.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { SequenceGroup } from './sequences.js';

/**
 * @param x [count length, D], sequences of one length
 * @param first tokens before the patches of a sequence: CLS and registers
 * @returns f32 [count, D]
 * @throws GpuError where a gradient would have to flow through it
 */
export function tokenMeans(graph: Graph, x: Tensor, { count, length }: SequenceGroup, first: number): Tensor {
  if (graph.needsGradient(x)) throw new GpuError('tokenMeans is for frozen features: record it without gradient');
  const { program } = graph;
  const out = program.intermediate('token_means', [count, x.columns]);
  const size = { count, length, first, columns: x.columns, storage: x.storage };
  program.dispatch(tokenMeansKernel.plan(size, program.gpu.capabilities), [x, out]);
  return out;
}
