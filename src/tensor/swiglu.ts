/** The activation of the SwiGLU feed-forward (spec §1.3). */

import * as swigluKernel from '../../kernels/swiglu.js';
import * as backwardKernel from '../../kernels/swiglu_backward.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/**
 * silu(first half) * second half of every row.
 * @param x [R, 2 H]
 * @returns [R, H]
 * @throws GpuError unless H is a multiple of 4
 */
export function swiglu(graph: Graph, x: Tensor): Tensor {
  const { program } = graph;
  const { rows, storage } = x;
  const size = { rows, hidden: x.columns / 2, storage };
  const y = graph.activation('swiglu', [rows, size.hidden]);
  program.dispatch(swigluKernel.plan(size), [x, y]);
  if (graph.needsGradient(x)) {
    graph.onBackward([y], ([dy]) => {
      if (!dy) return;
      graph.contribute(x, (into) => program.dispatch(backwardKernel.plan(size), [x, dy, into]));
    });
  }
  return y;
}
