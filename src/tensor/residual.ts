/**
 * The residual add of a block: LayerScale, and stochastic depth that computed the branch for some sequences only.
 *
 * LayerScale's gradient is a sum over branch values, which would have to be kept for it. But where the branch is the result
 * of a linear layer, branch = a Wᵀ + b, the gradients of W and b hold the same sum, times gamma:
 * gamma_n dgamma_n = Σ_k W_nk dW_nk + b_n db_n. So training keeps no branch.
 */

import { splitRows } from '../../kernels/column_lanes.js';
import * as columnSum from '../../kernels/column_sum_partials.js';
import * as layerScaleGradient from '../../kernels/layer_scale_gradient.js';
import * as scaledResidualKernel from '../../kernels/scaled_residual.js';
import * as backwardKernel from '../../kernels/scaled_residual_backward.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { LinearLayer } from './linear.js';
import type { RowSubset } from './rows.js';

export interface KeptRows {
  readonly subset: RowSubset;
  /** f32 [kept]: what each kept row's branch is multiplied by, b/s of its crop group (spec §1.6). */
  readonly scale: Tensor;
}

export interface LayerScale {
  /** f32 [D] */
  readonly gamma: Tensor;
  /** Whether the gradient of the branch's last linear layer brings gamma's, so that the branch itself is not needed. */
  readonly fromLinear: boolean;
}

/**
 * LayerScale of one branch, to be called before the branch's last linear layer is recorded: the tape then comes to gamma
 * after the gradients of that layer's weight and bias, which must have no other use in the graph.
 * Where gamma is (nearly) 0 its gradient is lost and stays 0; without `last` it is always right.
 * @param gamma f32 [D]
 * @param last the linear layer whose result is the branch, or undefined for a branch without one
 */
export function layerScale(graph: Graph, gamma: Tensor, last?: LinearLayer): LayerScale {
  const { program } = graph;
  const followed = last && [last.weight, ...(last.bias ? [last.bias] : [])];
  const fromLinear = followed !== undefined && graph.needsGradient(gamma) && followed.every((t) => t.requiresGrad);
  if (fromLinear) {
    const { weight, bias } = last!;
    graph.onBackward(followed, ([dweight, dbias]) => {
      if (!dweight) return;
      if (gamma.gradient && graph.gradientOf(gamma)) {
        throw new GpuError(
          `${gamma.name} scales two branches of one graph: its gradient cannot come from ${weight.name}`,
        );
      }
      graph.contribute(gamma, (into) => {
        const [outputs, inputs] = [gamma.elements, weight.elements / gamma.elements];
        const plan = layerScaleGradient.plan({ outputs, inputs, bias: bias !== undefined }, program.gpu.capabilities);
        const noBias = dbias ?? program.intermediate('no_bias_gradient', [1]);
        program.dispatch(plan, [weight, dweight, bias ?? weight, noBias, gamma, into]);
      });
    });
  }
  return { gamma, fromLinear };
}

/**
 * out = x, and out[kept] += scale * gamma * branch.
 *
 * @param x [N, D]
 * @param branch [N, D], or [kept, D] with `kept`
 * @param layer LayerScale; none means 1
 * @returns [N, D]
 */
export function scaledResidual(graph: Graph, x: Tensor, branch: Tensor, layer?: LayerScale, kept?: KeptRows): Tensor {
  const { program } = graph;
  const { rows, columns, storage } = x;
  const gamma = layer?.gamma;
  const out = graph.activation('residual', x.shape);
  const params = { rows, columns, kept: kept && branch.rows, gamma: gamma !== undefined, storage };
  program.dispatch(scaledResidualKernel.plan(params), [
    x,
    branch,
    gamma ?? x,
    kept?.subset.inverse ?? x,
    kept?.scale ?? x,
    out,
  ]);
  if (!graph.needsGradient(x, branch, gamma)) return out;

  const gammaGradient = gamma?.requiresGrad === true && !layer?.fromLinear;
  graph.onBackward([out], ([dout]) => {
    if (!dout) return;
    const { capabilities } = program.gpu;
    const split = splitRows(branch.rows, columns, capabilities);
    const partial = program.intermediate('d_gamma_parts', [gammaGradient ? split.parts : 1, columns]);
    graph.contribute(branch, (into) => {
      const switches = { subset: kept !== undefined, gamma: gamma !== undefined, gammaGradient };
      const plan = backwardKernel.plan({ rows: branch.rows, columns, ...split, ...switches, storage }, capabilities);
      program.dispatch(plan, [
        dout,
        gammaGradient ? branch : dout,
        gamma ?? dout,
        kept?.subset.index ?? dout,
        kept?.scale ?? dout,
        into,
        partial,
      ]);
    });
    if (gammaGradient) {
      graph.contribute(gamma, (into) => {
        program.dispatch(columnSum.join({ parts: split.parts, columns }, capabilities), [partial, into]);
      });
    }
    graph.passThrough(x, dout);
  });
  return out;
}
