/** Attention's gradient of the queries: the scores are recomputed, and only the q third of d_qkv is written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, divideWork, work } from './attention.js';

/**
 * Bindings: qkv [T, 3 · heads · headDim], tiles u32 [tiles, 4], d_out [T, heads · headDim], lse [heads, T], delta [heads, T],
 * d_qkv [T, 3 · heads · headDim].
 */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  const { rows, productFlops } = work(params);
  return {
    shader: 'attention_backward_q.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 3 * productFlops,
    bytes: 4 * rows * params.heads * (5 * params.headDim + 2),
  };
}
