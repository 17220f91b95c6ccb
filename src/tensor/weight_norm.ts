/** Weight normalisation of the head's last layer, with the gradients of directions and lengths (spec §2.1). */

import * as weightNormKernel from '../../kernels/weight_norm.js';
import * as backwardKernel from '../../kernels/weight_norm_backward.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/**
 * The effective weight of a weight-normalised linear layer: row k is g_k v_k / |v_k|. A row of zeros stays zero.
 * @param v f32 [K, D], `weight_v`
 * @param g f32 [K, 1], `weight_g`
 * @returns [K, D] as the graph stores activations, which it is multiplied with; its gradient is f32
 * @throws GpuError when v and g have different numbers of rows
 */
export function weightNorm(graph: Graph, v: Tensor, g: Tensor): Tensor {
  const { program } = graph;
  const size = { rows: v.rows, columns: v.columns };
  if (g.elements !== v.rows) {
    throw new GpuError(
      `weightNorm: ${v.name} [${v.shape}] needs one length a row, ${g.name} has the shape [${g.shape}]`,
    );
  }
  const w = graph.activation('weight_norm', v.shape);
  w.gradientDtype = 'f32';
  const inverseNorms = program.intermediate('weight_inverse_norms', [v.rows]);
  const plan = weightNormKernel.plan({ ...size, result: w.storage }, program.gpu.capabilities);
  program.dispatch(plan, [v, g, w, inverseNorms]);
  if (!graph.needsGradient(v, g)) return w;

  graph.onBackward([w], ([dw]) => {
    if (!dw) return;
    // One kernel writes both gradients; that of a frozen parameter goes to memory that nothing reads.
    const fill = (parameter: Tensor, write: (into: Tensor) => void): void => {
      if (parameter.requiresGrad) graph.contribute(parameter, write);
      else write(program.intermediate(`unused_d_${parameter.name}`, parameter.shape));
    };
    fill(v, (dv) => {
      fill(g, (dg) =>
        program.dispatch(backwardKernel.plan(size, program.gpu.capabilities), [v, g, inverseNorms, dw, dv, dg]),
      );
    });
  });
  return w;
}
