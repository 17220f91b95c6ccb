/** Layer-norm with its gradients (spec §1.3). */

import * as layerNormKernel from '../../kernels/layer_norm.js';
import * as backwardKernel from '../../kernels/layer_norm_backward.js';
import * as weightKernel from '../../kernels/layer_norm_backward_weight.js';
import { splitRows } from '../../kernels/column_lanes.js';
import * as columnSum from '../../kernels/column_sum_partials.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { RowSelection } from './rows.js';

/** The eps of every layer-norm in the DINOv2 backbone. */
export const LAYER_NORM_EPSILON = 1e-6;

/**
 * The backward pass needs x and two numbers a row; whoever else wants y then can make it again from them (`recompute`).
 * @param x [N, D]
 * @param weight f32 [D]
 * @param bias f32 [D]
 * @param subset where given, only these rows of x are normalised, read through the index
 * @returns [N or kept, D]
 */
export function layerNorm(graph: Graph, x: Tensor, weight: Tensor, bias: Tensor, subset?: RowSelection): Tensor {
  const { program } = graph;
  const columns = x.columns;
  const rows = subset ? subset.index.elements : x.rows;
  const gather = subset !== undefined;
  const { storage } = x;
  const { capabilities } = program.gpu;
  const record = (): [Tensor, Tensor] => {
    const y = graph.activation('layer_norm', [rows, columns]);
    const statistics = program.intermediate('layer_norm_statistics', [rows, 2]);
    const plan = layerNormKernel.plan({ rows, columns, epsilon: LAYER_NORM_EPSILON, gather, storage }, capabilities);
    program.dispatch(plan, [x, weight, bias, subset?.index ?? x, y, statistics]);
    return [y, statistics];
  };
  const [y, statistics] = record();
  if (!graph.needsGradient(x, weight, bias)) return y;
  if (subset && !subset.inverse)
    throw new GpuError(`the rows ${subset.index.name} need their inverse to bring a gradient back`);

  y.recompute = () => record()[0];
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    if (weight.requiresGrad || bias.requiresGrad) {
      const { parts, rowsPerPart } = splitRows(rows, columns, capabilities);
      const partial = program.intermediate('layer_norm_partial', [2, parts, columns]);
      const plan = weightKernel.plan({ rows, columns, parts, rowsPerPart, gather, storage }, capabilities);
      program.dispatch(plan, [x, statistics, subset?.index ?? x, dy, partial]);
      [weight, bias].forEach((parameter, i) => {
        graph.contribute(parameter, (into) => {
          program.dispatch(columnSum.join({ parts, columns, from: i * parts * columns }, capabilities), [
            partial,
            into,
          ]);
        });
      });
    }
    graph.contribute(
      x,
      (into, sum) => {
        const plan = backwardKernel.plan(
          { rows: x.rows, columns, kept: subset && rows, add: sum !== undefined, storage },
          capabilities,
        );
        program.dispatch(plan, [x, weight, statistics, subset?.inverse ?? x, dy, sum ?? dy, into]);
      },
      { fuse: true },
    );
  });
  return y;
}
