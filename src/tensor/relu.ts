/** The rectifier with its gradient. */

import * as reluKernel from '../../kernels/relu.js';
import * as backwardKernel from '../../kernels/relu_backward.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32 } from './feature_map.js';
import type { Graph } from './graph.js';

/**
 * The backward pass reads the result, not x; at x = 0 the gradient is 0, as in PyTorch.
 * @param x f32, any shape
 * @param offset a constant of the recipe that is added to the result, such as the least depth (spec §6.5.3)
 * @returns max(x, 0) + offset, of the same shape
 */
export function relu(graph: Graph, x: Tensor, offset = 0): Tensor {
  const { program } = graph;
  assertFloat32('relu', x);
  const params = { elements: x.elements, offset };
  const y = program.intermediate('relu', x.shape);
  program.dispatch(reluKernel.plan(params), [x, y]);
  if (!graph.needsGradient(x)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(x, (into) => program.dispatch(backwardKernel.plan(params), [y, dy, into]));
  });
  return y;
}
