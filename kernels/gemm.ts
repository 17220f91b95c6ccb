/**
 * Matrix products in three layouts with fused epilogues and deterministic split-K.
 *
 * Variants:
 * - `mma` (gemm_mma.wgsl): subgroup matrices, for half operands on adapters that have them.
 * - `tiled` (gemm.wgsl): 64 x 64 tiles through workgroup memory; any adapter; in float32 any sizes.
 * - `direct` (gemm_direct.wgsl): registers and broadcasts, for adapters that run on a CPU, where a barrier costs more than
 *   a load; needs subgroups.
 */

import { GpuError } from '../src/errors.js';
import { type Capabilities, prefersMatrices } from '../src/gpu/capabilities.js';
import { alignUp } from '../src/gpu/constants.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { gemmCost, gemmEpilogue, type GemmParams, type GemmVariant } from './gemm_epilogue.js';
import * as gemmMma from './gemm_mma.js';
import { quadInclude } from './storage.js';

export type { GemmEpilogue, GemmLayout, GemmParams, GemmVariant } from './gemm_epilogue.js';

/** Whether the contiguous dimension of both operands holds whole quads. */
function quadsFit({ layout, M, N, K }: GemmParams): boolean {
  const contiguous = layout === 'TN' ? [M, N] : layout === 'NN' ? [K, N] : [K];
  return contiguous.every((size) => size % 4 === 0);
}

function chooseVariant(params: GemmParams, caps: Capabilities): GemmVariant {
  if (params.variant) return params.variant;
  if (prefersMatrices(caps) && gemmMma.fits(params, caps)) return 'mma';
  return caps.software && caps.subgroups && quadsFit(params) ? 'direct' : 'tiled';
}

/** Rows and columns of the result that a workgroup owns. */
function tileOf(variant: GemmVariant, params: GemmParams, caps: Capabilities): readonly [number, number] {
  if (variant === 'mma') return gemmMma.tile(params, caps);
  return [variant === 'direct' ? 8 : 64, 64];
}

/**
 * How many parts to cut K into: as many as bring the number of workgroups near what keeps the adapter busy, each part
 * still long enough to be worth its pass over the result.
 */
export function splitK(params: GemmParams, caps: Capabilities): number {
  const [rows, columns] = tileOf(chooseVariant(params, caps), params, caps);
  const tiles = Math.ceil(params.M / rows) * Math.ceil(params.N / columns);
  const wanted = caps.software ? 8 : 264;
  return Math.max(1, Math.min(Math.floor(wanted / tiles), Math.floor(params.K / 256)));
}

/**
 * Bindings: a, b, bias f32 [N], extra [M, N], gamma f32 [N] (any tensor where the epilogue has no use for it),
 * out [parts, M, N], and with `geluKeep` kept [M, N].
 * @throws GpuError for half operands or results whose rows are no whole quads, or for a variant that does not fit
 */
export function plan(params: GemmParams, caps: Capabilities): KernelPlan {
  const { layout, M, N, K, parts = 1, operands = 'f32' } = params;
  const variant = chooseVariant(params, caps);
  if (variant === 'mma') return gemmMma.plan(params, caps);
  const quads = quadsFit(params);
  if (!quads && (operands === 'f16' || variant === 'direct')) {
    const what = operands === 'f16' ? 'half operands need' : 'the direct variant needs';
    throw new GpuError(`gemm ${layout} [${M}, ${N}, ${K}]: ${what} multiples of 4 along rows`);
  }
  const { prelude, includes = [], bindings } = gemmEpilogue(params);
  const [rows, columns] = tileOf(variant, params, caps);
  const operandIncludes =
    variant === 'direct'
      ? [quadInclude(operands)]
      : quads
        ? [quadInclude(operands), 'lib/gemm_operands_quads.wgsl']
        : ['lib/gemm_operands_ragged.wgsl'];
  return {
    shader: variant === 'direct' ? 'gemm_direct.wgsl' : 'gemm.wgsl',
    prelude,
    includes: [...includes, ...operandIncludes],
    parameters: [M, N, K, alignUp(Math.ceil(K / parts), 16)],
    grid: [Math.ceil(N / columns), Math.ceil(M / rows), parts],
    bindings,
    ...gemmCost(params),
  };
}
