/**
 * What all gemm kernels share: their parameters, and the epilogue between the sums and memory (lib/gemm_epilogue.wgsl) with
 * the includes that fit the result's storage.
 */

import { GpuError } from '../src/errors.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import type { Prelude } from '../src/gpu/shaders.js';
import { resultInclude, type Storage, storedBytes } from './storage.js';

/** NN: a [M,K], b [K,N]. NT: a [M,K], b [N,K] (PyTorch's weight layout). TN: a [K,M], b [K,N] (weight gradients). */
export type GemmLayout = 'NN' | 'NT' | 'TN';

export type GemmEpilogue =
  /** out = v */
  | 'none'
  /** out = gelu(v) */
  | 'gelu'
  /** out = gelu(v), kept = v */
  | 'geluKeep'
  /** out = v gelu'(extra) */
  | 'geluBackward'
  /** out = extra + gamma v */
  | 'residual'
  /** out += v */
  | 'add';

/** `mma` and `mma-narrow` are subgroup matrices in the wide and the narrow tile of gemm_mma.ts. */
export type GemmVariant = 'tiled' | 'direct' | 'mma' | 'mma-narrow';

export interface GemmParams {
  readonly layout: GemmLayout;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly bias?: boolean;
  readonly epilogue?: GemmEpilogue;
  /** How a and b are stored; f32 by default. */
  readonly operands?: Storage;
  /** How extra, kept and out are stored; f32 by default. */
  readonly result?: Storage;
  /** K is cut in this many parts, each with a partial result of its own; 1 unless `splitK` says so. */
  readonly parts?: number;
  readonly variant?: GemmVariant;
}

/** The number of a layout in the shaders. */
export const LAYOUT_NUMBERS: Record<GemmLayout, number> = { NN: 0, NT: 1, TN: 2 };

/** Prelude, includes and bindings of a gemm kernel: a, b, bias, extra, gamma, out and, with `geluKeep`, kept. */
export function gemmEpilogue(params: GemmParams): Pick<KernelPlan, 'includes' | 'bindings'> & { prelude: Prelude } {
  const { layout, M, N, K, bias = false, epilogue = 'none', result = 'f32', parts = 1 } = params;
  if (parts > 1 && (bias || epilogue !== 'none' || result !== 'f32')) {
    throw new RangeError('a split gemm has float32 parts and no epilogue: its parts are not sums yet');
  }
  const ragged = N % 4 !== 0;
  const keep = epilogue === 'geluKeep';
  if (ragged && (result === 'f16' || keep)) {
    const what = keep ? 'to keep pre-activations takes' : 'half results take';
    throw new GpuError(`gemm ${layout} [${M}, ${N}, ${K}]: ${what} a multiple of 4 columns`);
  }
  return {
    prelude: {
      LAYOUT: LAYOUT_NUMBERS[layout],
      BIAS: bias,
      GELU: epilogue === 'gelu' || keep,
      GELU_BACKWARD: epilogue === 'geluBackward',
      RESIDUAL: epilogue === 'residual',
      ADD: epilogue === 'add',
      SIZES: keep ? 7 : 6,
    },
    includes: [
      ...(ragged ? ['lib/gemm_result_ragged.wgsl'] : [resultInclude(result), 'lib/gemm_result_quads.wgsl']),
      keep ? 'lib/gemm_keep.wgsl' : 'lib/gemm_keep_nothing.wgsl',
    ],
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write', ...(keep ? (['read_write'] as const) : [])],
  };
}

/** Floating-point operations, and bytes that must move. */
export function gemmCost(params: GemmParams): { flops: number; bytes: number } {
  const { M, N, K, epilogue = 'none', operands = 'f32', result = 'f32', parts = 1 } = params;
  const results = parts + (epilogue === 'none' || epilogue === 'gelu' ? 0 : 1);
  return {
    flops: 2 * M * N * K,
    bytes: storedBytes(operands) * (M * K + K * N) + storedBytes(result) * M * N * results,
  };
}
