/** Attention's gradients of keys and values on subgroup matrices; only the k and v thirds of d_qkv are written. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, work } from './attention.js';
import { divideWork, layoutOf } from './attention_mma.js';

/**
 * Bindings: those of `attention_mma_backward_q`.
 * @throws GpuError where `fits` is false
 */
export function plan(
  params: AttentionParams,
  caps: Capabilities,
  layout = layoutOf(params, caps, 'backward'),
): KernelPlan {
  const { rows, productFlops } = work(params);
  return {
    shader: 'attention_mma_backward_kv.wgsl',
    ...divideWork(params, caps, layout),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 4 * productFlops,
    bytes: rows * params.heads * (12 * params.headDim + 8),
  };
}
