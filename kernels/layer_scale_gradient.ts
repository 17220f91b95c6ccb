/** LayerScale's gradient from the gradient of the last linear layer of its branch, so that nobody keeps the branch. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';

export interface LayerScaleGradientParams {
  /** Width of the branch. */
  readonly outputs: number;
  /** Inputs of the linear layer. */
  readonly inputs: number;
  readonly bias: boolean;
}

/**
 * Bindings, all f32: weight [outputs, inputs], its gradient, bias [outputs] (any tensor without one), its gradient (one
 * element without a bias), gamma [outputs], dgamma [outputs]. The gradients are bound read_write although they are only
 * read: those of all parameters share a buffer, and dgamma is among them.
 */
export function plan({ outputs, inputs, bias }: LayerScaleGradientParams, caps: Capabilities): KernelPlan {
  const { grid, include, prelude } = rowWork('layer_scale_gradient', outputs, inputs, 0, caps);
  return {
    shader: 'layer_scale_gradient.wgsl',
    includes: [include],
    prelude: { ...prelude, N: outputs, BIAS: bias },
    grid,
    bindings: ['read', 'read_write', 'read', 'read_write', 'read', 'read_write'],
    flops: 2 * outputs * inputs,
    bytes: 8 * outputs * inputs + (bias ? 16 : 8) * outputs,
  };
}
