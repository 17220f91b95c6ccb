/** Batch norm over rows: the statistics of a column are taken over all pixels of all pictures (spec §6.6.1). */

import * as batchNormKernel from '../../kernels/batch_norm.js';
import * as backwardKernel from '../../kernels/batch_norm_backward.js';
import * as sumsKernel from '../../kernels/batch_norm_backward_sums.js';
import * as momentsKernel from '../../kernels/batch_norm_moments.js';
import * as statisticsKernel from '../../kernels/batch_norm_statistics.js';
import { interleavedParts } from '../../kernels/column_sum_ragged.js';
import * as copyRows from '../../kernels/copy_rows.js';
import * as sumPartials from '../../kernels/sum_partials.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32 } from './feature_map.js';
import type { Graph } from './graph.js';

/** PyTorch's defaults, which the segmentation heads use. */
const EPSILON = 1e-5;
const MOMENTUM = 0.1;

/** f32 [C] each. */
export interface BatchNormWeights {
  readonly weight: Tensor;
  readonly bias: Tensor;
  /** State, not trained: each run of a `training` program moves it by a tenth towards the batch's statistics. */
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
}

/**
 * @param x f32 [R, C], any C
 * @param mode `training`: the batch's statistics, biased variance, while the running ones take the unbiased one;
 *   `evaluation`: the running statistics
 * @returns f32 [R, C]
 * @throws GpuError for a batch of one row, which has no variance
 */
export function batchNorm(
  graph: Graph,
  x: Tensor,
  { weight, bias, runningMean, runningVar }: BatchNormWeights,
  mode: 'training' | 'evaluation',
): Tensor {
  const { program } = graph;
  const { rows, columns } = x;
  assertFloat32('batchNorm', x, weight, bias, runningMean, runningVar);
  for (const tensor of [weight, bias, runningMean, runningVar]) {
    if (tensor.elements !== columns) {
      throw new GpuError(`batchNorm: ${tensor.name} [${tensor.shape}] for ${columns} columns of ${x.name}`);
    }
  }
  const batch = mode === 'training';
  const parts = interleavedParts(rows, columns, program.gpu.capabilities);
  let [mean, variance] = [runningMean, runningVar];
  if (batch) {
    if (rows < 2) throw new GpuError('batchNorm: a batch of one row has no variance; give it more pixels');
    const partial = program.intermediate('batch_norm_parts', [parts, 2, columns]);
    program.dispatch(momentsKernel.plan({ rows, columns, parts }), [x, partial]);
    mean = program.intermediate('batch_mean', [columns]);
    variance = program.intermediate('batch_variance', [columns]);
    const plan = statisticsKernel.plan({ rows, columns, parts, momentum: MOMENTUM });
    program.dispatch(plan, [partial, mean, variance, runningMean, runningVar]);
  }
  const y = program.intermediate('batch_norm', x.shape);
  const params = { rows, columns, epsilon: EPSILON };
  program.dispatch(batchNormKernel.plan(params), [x, mean, variance, weight, bias, y]);
  if (!graph.needsGradient(x, weight, bias)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    let sums: Tensor | undefined;
    if (weight.requiresGrad || bias.requiresGrad || batch) {
      const partial = program.intermediate('batch_norm_gradient_parts', [parts, 2, columns]);
      program.dispatch(sumsKernel.plan({ ...params, parts }), [x, mean, variance, dy, partial]);
      const total = program.intermediate('batch_norm_gradient_sums', [2, columns]);
      program.dispatch(sumPartials.plan({ parts, elements: 2 * columns }), [partial, total]);
      [weight, bias].forEach((parameter, row) => {
        graph.contribute(parameter, (into) => {
          program.dispatch(copyRows.plan({ rows: 1, columns, from: row, to: 0 }), [total, into]);
        });
      });
      sums = total;
    }
    graph.contribute(x, (into) => {
      program.dispatch(backwardKernel.plan({ ...params, batch }), [x, mean, variance, weight, sums ?? dy, dy, into]);
    });
  });
  return y;
}
