/** Attention's gradient of the queries on subgroup matrices; only the q third of d_qkv is written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, work } from './attention.js';
import { divideWork, layoutOf } from './attention_mma.js';

/**
 * Bindings: qkv f16 [T, 3 · heads · headDim], tiles u32 [tiles, 4] of `layout`, d_out f16 [T, heads · headDim],
 * lse f32 [heads, T], delta f32 [heads, T], d_qkv f16 [T, 3 · heads · headDim].
 * @throws GpuError where `fits` is false
 */
export function plan(
  params: AttentionParams,
  caps: Capabilities,
  layout = layoutOf(params, caps, 'backward'),
): KernelPlan {
  const { rows, productFlops } = work(params);
  return {
    shader: 'attention_mma_backward_q.wgsl',
    ...divideWork(params, caps, layout),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 3 * productFlops,
    bytes: rows * params.heads * (10 * params.headDim + 8),
  };
}
