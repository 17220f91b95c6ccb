/**
 * Matrix products in three layouts with fused epilogues and deterministic split-K.
 *
 * Variants:
 * - `mma`, `mma-narrow` (gemm_mma.wgsl): subgroup matrices, for half operands on adapters that have them; two tiles.
 * - `tiled` (gemm.wgsl): 64 x 64 tiles through workgroup memory; any adapter; in float32 any sizes.
 * - `direct` (gemm_direct.wgsl): registers and broadcasts, for adapters that run on a CPU, where a barrier costs more than
 *   a load; needs subgroups.
 *
 * Which one a product takes: what it asks for, else what `webdino tune` measured for its shape on this adapter, else a rule.
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

/** The variants that this product can take on this adapter, the most special first. */
export function variants(params: GemmParams, caps: Capabilities): GemmVariant[] {
  const list: GemmVariant[] = [];
  if (prefersMatrices(caps) && gemmMma.fits(params, caps)) list.push('mma', 'mma-narrow');
  if (caps.subgroups && quadsFit(params)) list.push('direct');
  list.push('tiled');
  return list;
}

/** What is likely fastest, as far as shape and adapter tell. */
export function ruleVariant(params: GemmParams, caps: Capabilities): GemmVariant {
  if (prefersMatrices(caps) && gemmMma.fits(params, caps)) {
    return gemmMma.chooseColumnTiles(params, caps) === 3 ? 'mma-narrow' : 'mma';
  }
  return caps.software && caps.subgroups && quadsFit(params) ? 'direct' : 'tiled';
}

/** The variant that `plan` takes. */
export function chooseVariant(params: GemmParams, caps: Capabilities): GemmVariant {
  if (params.variant) return params.variant;
  const tuned = caps.tuned?.get(gemmKey(params));
  // A table may be older than the kernels, or made for another family of them.
  const known = tuned === undefined ? undefined : variants(params, caps).find((variant) => variant === tuned);
  return known ?? ruleVariant(params, caps);
}

function columnTiles(variant: 'mma' | 'mma-narrow'): gemmMma.ColumnTiles {
  return variant === 'mma' ? 4 : 3;
}

/** Rows and columns of the result that a workgroup owns. */
function tileOf(variant: GemmVariant, params: GemmParams, caps: Capabilities): readonly [number, number] {
  if (variant === 'mma' || variant === 'mma-narrow') return gemmMma.tile(params, caps, columnTiles(variant));
  return variant === 'direct' ? [2 * directLanes(caps), 32] : [64, 64];
}

/** Lanes that share what they load of a in `direct`: as many as every subgroup has for sure. */
function directLanes(caps: Capabilities): 4 | 8 {
  return caps.subgroupMinSize >= 8 ? 8 : 4;
}

/** The most parts that K may be cut into; shorter ones are all overhead. */
function mostParts({ K }: GemmParams): number {
  return Math.max(1, Math.floor(K / 128));
}

/**
 * How many parts to cut K into by rule: as many as bring the number of workgroups near what keeps the adapter busy, each
 * part still long enough to be worth its pass over the result.
 */
export function ruleParts(params: GemmParams, caps: Capabilities): number {
  const [rows, columns] = tileOf(params.variant ?? ruleVariant(params, caps), params, caps);
  const tiles = Math.ceil(params.M / rows) * Math.ceil(params.N / columns);
  const wanted = caps.software ? 8 : 264;
  return Math.max(1, Math.min(Math.floor(wanted / tiles), Math.floor(params.K / 256)));
}

/** How many parts to cut K into: what was measured for this shape, else by rule. `params.parts` plays no role. */
export function splitK(params: GemmParams, caps: Capabilities): number {
  const tuned = Number(caps.tuned?.get(splitKey(params)));
  return Number.isInteger(tuned) && tuned >= 1 && tuned <= mostParts(params) ? tuned : ruleParts(params, caps);
}

/** Numbers of parts worth a try: the rule's, none, and some around the rule's. */
export function splitCandidates(params: GemmParams, caps: Capabilities): number[] {
  const rule = ruleParts(params, caps);
  const around = [1, Math.ceil(rule / 2), rule, 2 * rule].filter((parts) => parts <= mostParts(params));
  return [...new Set(around)].sort((a, b) => a - b);
}

/** One of the parts of a product: a float32 partial sum. */
export function partsOf(params: GemmParams, parts: number): GemmParams {
  return parts === 1 ? { ...params, parts } : { ...params, parts, result: 'f32' };
}

// --- Keys of the table of tuned variants ------------------------------------------------------------------------------

/** `NT f16 f32 16448x1536x384`: layout, storage of operands and result, M x N x K. */
function shapeKey({ layout, operands = 'f32', result = 'f32', M, N, K }: GemmParams): string {
  return `${layout} ${operands} ${result} ${M}x${N}x${K}`;
}

/** Key of a product's variant: `gemm NT f16 f16 16448x1536x384`, with `/7` where K is cut in 7 parts. */
export function gemmKey(params: GemmParams): string {
  const { parts = 1 } = params;
  return `gemm ${shapeKey(params)}${parts > 1 ? `/${parts}` : ''}`;
}

/** Key of the number of parts: `gemm_split TN f16 f32 384x1536x16448`. */
export function splitKey(params: GemmParams): string {
  return `gemm_split ${shapeKey(params)}`;
}

/** What a key stands for, and whether it is that of a variant or of a number of parts; undefined for other operators' keys. */
export function parseKey(key: string): { kind: 'variant' | 'parts'; params: GemmParams } | undefined {
  const match = /^gemm(_split)? (NN|NT|TN) (f16|f32) (f16|f32) (\d+)x(\d+)x(\d+)(?:\/(\d+))?$/.exec(key);
  if (!match) return undefined;
  const [, split, layout, operands, result, M, N, K, parts] = match;
  return {
    kind: split ? 'parts' : 'variant',
    params: {
      layout: layout as GemmParams['layout'],
      operands: operands as GemmParams['operands'],
      result: result as GemmParams['result'],
      M: Number(M),
      N: Number(N),
      K: Number(K),
      ...(parts ? { parts: Number(parts) } : {}),
    },
  };
}

// --- The plan ---------------------------------------------------------------------------------------------------------

/**
 * Bindings: a, b, bias f32 [N], extra [M, N], gamma f32 [N] (any tensor where the epilogue has no use for it),
 * out [parts, M, N], and with `geluKeep` kept [M, N].
 * @throws GpuError for half operands or results whose rows are no whole quads, or for a variant that does not fit
 */
export function plan(params: GemmParams, caps: Capabilities): KernelPlan {
  const { layout, M, N, K, parts = 1, operands = 'f32' } = params;
  const variant = chooseVariant(params, caps);
  if (variant === 'mma' || variant === 'mma-narrow') return gemmMma.plan(params, caps, columnTiles(variant));
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
    prelude: variant === 'direct' ? { ...prelude, LANES: directLanes(caps) } : prelude,
    includes: [...includes, ...operandIncludes],
    parameters: [M, N, K, alignUp(Math.ceil(K / parts), 16)],
    grid: [Math.ceil(N / columns), Math.ceil(M / rows), parts],
    bindings,
    ...gemmCost(params),
  };
}
