/** Attention's gradients of keys and values: the scores are recomputed, and only the k and v thirds of d_qkv are written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, divideWork, work } from './attention.js';

/** FLOPs and bytes, however the kernel divides its work. */
export function backwardKvCost(params: AttentionParams): Pick<KernelPlan, 'flops' | 'bytes'> {
  const { productFlops, matrixBytes, statisticBytes } = work(params);
  return { flops: 4 * productFlops, bytes: 6 * matrixBytes + 2 * statisticBytes };
}

/** Bindings: those of `attention_backward_q`. */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  return {
    shader: 'attention_backward_kv.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    ...backwardKvCost(params),
  };
}
