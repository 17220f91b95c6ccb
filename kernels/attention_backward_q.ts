/** Attention's gradient of the queries: the scores are recomputed, and only the q third of d_qkv is written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, divideWork, work } from './attention.js';

/** FLOPs and bytes, however the kernel divides its work. */
export function backwardQCost(params: AttentionParams): Pick<KernelPlan, 'flops' | 'bytes'> {
  const { productFlops, matrixBytes, statisticBytes } = work(params);
  return { flops: 3 * productFlops, bytes: 5 * matrixBytes + 2 * statisticBytes };
}

/**
 * Bindings: qkv [T, 3 · heads · headDim], tiles u32 [tiles, 4], d_out [T, heads · headDim], lse f32 [heads, T],
 * delta f32 [heads, T], d_qkv [T, 3 · heads · headDim].
 */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  return {
    shader: 'attention_backward_q.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    ...backwardQCost(params),
  };
}
