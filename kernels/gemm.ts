/**
 * Matrix products in three layouts with fused epilogues and deterministic split-K.
 *
 * Variants (`f32` family):
 * - `tiled` (gemm.wgsl): 64 x 64 tiles through workgroup memory; any sizes.
 * - `direct` (gemm_direct.wgsl): registers and broadcasts, for adapters that run on a CPU, where a barrier costs more than
 *   a load; needs subgroups.
 */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { alignUp } from '../src/gpu/constants.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';

/** NN: a [M,K], b [K,N]. NT: a [M,K], b [N,K] (PyTorch's weight layout). TN: a [K,M], b [K,N] (weight gradients). */
export type GemmLayout = 'NN' | 'NT' | 'TN';

export type GemmEpilogue =
  /** out = v */
  | 'none'
  /** out = gelu(v) */
  | 'gelu'
  /** out [2, M, N padded] = gelu(v), then v, `preActivationOffset` elements further on */
  | 'geluKeep'
  /** out = v gelu'(extra) */
  | 'geluBackward'
  /** out = extra + gamma v */
  | 'residual';

export interface GemmParams {
  readonly layout: GemmLayout;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly bias?: boolean;
  readonly epilogue?: GemmEpilogue;
  /** K is cut in this many parts, each with a partial result of its own; 1 unless `splitK` says so. */
  readonly parts?: number;
  readonly variant?: 'tiled' | 'direct';
}

const LAYOUTS: Record<GemmLayout, number> = { NN: 0, NT: 1, TN: 2 };

/** With `geluKeep`: where the pre-activations begin, in elements: past the result, at a place that can be bound. */
export function preActivationOffset(M: number, N: number): number {
  return alignUp(M * N, 64);
}

function directFits({ layout, M, N, K }: GemmParams): boolean {
  const aligned = layout === 'TN' ? [M, N] : layout === 'NN' ? [K, N] : [K];
  return aligned.every((size) => size % 4 === 0);
}

function chooseVariant(params: GemmParams, caps: Capabilities): 'tiled' | 'direct' {
  if (params.variant) return params.variant;
  return caps.software && caps.subgroups && directFits(params) ? 'direct' : 'tiled';
}

/**
 * How many parts to cut K into: as many as bring the number of workgroups near what keeps the adapter busy, each part
 * still long enough to be worth its pass over the result.
 */
export function splitK(params: GemmParams, caps: Capabilities): number {
  const tiles =
    chooseVariant(params, caps) === 'direct'
      ? Math.ceil(params.M / 8) * Math.ceil(params.N / 64)
      : Math.ceil(params.M / 64) * Math.ceil(params.N / 64);
  const wanted = caps.software ? 8 : 264;
  return Math.max(1, Math.min(Math.floor(wanted / tiles), Math.floor(params.K / 256)));
}

/**
 * Bindings: a, b, bias [N], extra [M, N], gamma [N] (any tensor where the epilogue has no use for it),
 * out [parts, M, N] ([2, ...] with `geluKeep`).
 */
export function plan(params: GemmParams, caps: Capabilities): KernelPlan {
  const { layout, M, N, K, bias = false, epilogue = 'none', parts = 1 } = params;
  const direct = chooseVariant(params, caps) === 'direct';
  if (direct && !directFits(params))
    throw new RangeError(`gemm ${layout} [${M}, ${N}, ${K}]: the direct variant needs multiples of 4`);
  if (parts > 1 && (bias || epilogue !== 'none'))
    throw new RangeError('a split gemm has no epilogue: its parts are not sums yet');
  return {
    shader: direct ? 'gemm_direct.wgsl' : 'gemm.wgsl',
    prelude: {
      LAYOUT: LAYOUTS[layout],
      BIAS: bias,
      GELU: epilogue === 'gelu' || epilogue === 'geluKeep',
      KEEP: epilogue === 'geluKeep',
      GELU_BACKWARD: epilogue === 'geluBackward',
      RESIDUAL: epilogue === 'residual',
    },
    parameters: [M, N, K, alignUp(Math.ceil(K / parts), 16), preActivationOffset(M, N)],
    grid: [Math.ceil(N / 64), Math.ceil(M / (direct ? 8 : 64)), parts],
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 2 * M * N * K,
    bytes: 4 * (M * K + K * N + M * N * (parts + (epilogue === 'none' || epilogue === 'gelu' ? 0 : 1))),
  };
}
