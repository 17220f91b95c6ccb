/** Attention's gradients of keys and values: the scores are recomputed, and only the k and v thirds of d_qkv are written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, divideWork, work } from './attention.js';

/** Bindings: those of `attention_backward_q`. */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  const { rows, productFlops } = work(params);
  return {
    shader: 'attention_backward_kv.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 4 * productFlops,
    bytes: 4 * rows * params.heads * (6 * params.headDim + 2),
  };
}
