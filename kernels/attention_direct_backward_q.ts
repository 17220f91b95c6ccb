/** Attention's gradient of the queries on adapters that run on a CPU: see attention_direct.ts. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { AttentionParams } from './attention.js';
import { backwardQCost } from './attention_backward_q.js';
import { divideWork } from './attention_direct.js';

/** Bindings: those of `attention_backward_q`. For params and adapters for which `attention_direct.fits` holds. */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  return {
    shader: 'attention_direct_backward_q.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    ...backwardQCost(params),
  };
}
