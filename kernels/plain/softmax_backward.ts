/** The gradient of softmax.ts. */

import type { Capabilities } from '../../src/gpu/capabilities.js';
import type { KernelPlan } from '../../src/gpu/kernel_plan.js';
import { type SoftmaxParams, softmaxWork } from './softmax.js';

/** Bindings: p [rows, columns], dp [rows, columns], ds [rows, columns]. */
export function plan(params: SoftmaxParams, caps: Capabilities): KernelPlan {
  const { rows, columns } = params;
  return {
    shader: 'plain/softmax_backward.wgsl',
    ...softmaxWork(params, caps),
    bindings: ['read', 'read', 'read_write'],
    flops: 4 * rows * columns,
    bytes: 12 * rows * columns,
  };
}
