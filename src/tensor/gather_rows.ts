/** Chosen rows as they are, without a norm; for frozen tokens, so it has no backward. */

import * as gatherRowsKernel from '../../kernels/gather_rows.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/**
 * @param x [N, D]
 * @param index u32 [rows], each below N
 * @returns [rows, D] in the storage of x
 * @throws GpuError where a gradient would have to flow through it
 */
export function gatherRows(graph: Graph, x: Tensor, index: Tensor): Tensor {
  if (graph.needsGradient(x)) throw new GpuError('gatherRows is for frozen tokens: record it without gradient');
  const { program } = graph;
  const gathered = program.intermediate('gathered_rows', [index.elements, x.columns], x.dtype);
  const plan = gatherRowsKernel.plan({ rows: index.elements, columns: x.columns, storage: x.storage });
  program.dispatch(plan, [x, index, gathered]);
  return gathered;
}
