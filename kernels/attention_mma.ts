/**
 * Attention on subgroup matrices: all tensors in halves, float32 sums; and how its three kernels divide the work.
 *
 * Bindings and tables are those of the portable kernels. What a workgroup owns is another number of rows, and the forward
 * kernel's is not that of the backward ones: each needs the `sequenceTiles` of its layout.
 */

import { GpuError } from '../src/errors.js';
import { type Capabilities, matrixConfig } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { Prelude } from '../src/gpu/shaders.js';
import { type AttentionParams, work } from './attention.js';
import { mmaConstants } from './mma.js';

/** As lib/attention_mma.wgsl has them. */
const SUBGROUPS = 4;
const MOST_MATRICES = 8;

/** More workgroup memory than this leaves one workgroup a multiprocessor where that has 48 KiB (spec h100.md §3). */
const WORKGROUP_BYTES = 24576;

/** Above this head dim, two blocks of own rows need more registers than there are. */
const MOST_COLUMNS_OF_TWO_BLOCKS = 96;

/** Sequences from here on are long: fewer, larger tiles of keys. Measured at 257 (16 keys) and 1,370 (32). */
const LONG_SEQUENCE = 640;

export interface AttentionMmaLayout {
  /** Rows a tile that a workgroup walks through. */
  readonly met: 16 | 32;
  /**
   * Whether weights have memory beside their scores (and in the forward kernel values beside keys). If not, a tile takes
   * less memory and more barriers.
   */
  readonly apart: boolean;
  /** Rows of matrices a subgroup owns. */
  readonly blocks: number;
  /** Matrices of scores a subgroup and block, and tiles held at a time. */
  readonly stages: number;
  readonly operands: number;
  /** Rows that a workgroup owns: what its table is made for. */
  readonly ownedRows: number;
  readonly workgroupBytes: number;
}

type Direction = 'forward' | 'backward';

/** The layouts of a kernel that the adapter has room for, the best first; empty where the kernels do not apply. */
function layouts(
  { headDim, sequences }: AttentionParams,
  caps: Capabilities,
  direction: Direction,
): AttentionMmaLayout[] {
  const config = matrixConfig(caps);
  const lanes = caps.subgroupMaxSize;
  if (!config || config.N !== config.K || config.K > 16 || lanes < config.M) return [];
  if (headDim % config.K !== 0 || headDim / config.K > MOST_MATRICES) return [];
  if (SUBGROUPS * lanes > caps.maxInvocationsPerWorkgroup) return [];
  const forward = direction === 'forward';
  const long = sequences.some(({ length }) => length >= LONG_SEQUENCE);
  const blocks = forward && headDim <= MOST_COLUMNS_OF_TWO_BLOCKS ? Math.min(2, Math.floor(lanes / config.M)) : 1;
  const stages = forward ? blocks : 2;
  const layout = (met: 16 | 32, apart: boolean): AttentionMmaLayout => {
    const operands = forward && !apart ? 1 : 2;
    const blockBytes = 16 * Math.max(config.M, config.N) * (met / 4 + (apart ? met / 8 : 0) + 1);
    const tileBlocks = (met / config.K) * Math.ceil(headDim / (2 * met));
    const besides = forward ? 4 * SUBGROUPS : 8 * met;
    const workgroupBytes = blockBytes * (SUBGROUPS * stages + operands * tileBlocks) + besides;
    return { met, apart, blocks, stages, operands, ownedRows: SUBGROUPS * blocks * config.M, workgroupBytes };
  };
  const wide = forward ? [layout(32, false)] : [];
  const narrow = [layout(16, true), layout(16, false)];
  const room = Math.min(WORKGROUP_BYTES, caps.maxWorkgroupMemoryBytes);
  return (long ? [...wide, ...narrow] : [...narrow, ...wide]).filter(({ workgroupBytes }) => workgroupBytes <= room);
}

/** Whether the kernels take these heads on this adapter. */
export function fits(params: AttentionParams, caps: Capabilities): boolean {
  return layouts(params, caps, 'forward').length > 0 && layouts(params, caps, 'backward').length > 0;
}

/** Keys a tile of the forward kernel's layouts that there is room for, the best first. */
export function keyTiles(params: AttentionParams, caps: Capabilities): (16 | 32)[] {
  return [...new Set(layouts(params, caps, 'forward').map(({ met }) => met))];
}

/**
 * The layout that a plan takes.
 * @param choice of the forward kernel, where another than the best is wanted
 * @throws GpuError where `fits` is false or there is no such layout
 */
export function layoutOf(
  params: AttentionParams,
  caps: Capabilities,
  direction: Direction,
  choice: Partial<Pick<AttentionMmaLayout, 'met' | 'apart'>> = {},
): AttentionMmaLayout {
  const found = layouts(params, caps, direction).find(
    ({ met, apart }) => met === (choice.met ?? met) && apart === (choice.apart ?? apart),
  );
  if (!found) {
    throw new GpuError(
      `attention over heads of ${params.headDim}: no layout for the subgroup matrices of ${caps.description}`,
    );
  }
  return found;
}

/** Prelude and grid of the kernels that include lib/attention_mma.wgsl. */
export function divideWork(
  { heads, headDim, sequences }: AttentionParams,
  caps: Capabilities,
  { met, apart, blocks, stages, operands, ownedRows }: AttentionMmaLayout,
): { prelude: Prelude; grid: KernelPlan['grid'] } {
  const tiles = sequences.reduce((sum, { count, length }) => sum + count * Math.ceil(length / ownedRows), 0);
  return {
    prelude: {
      ...mmaConstants(caps),
      HEADS: heads,
      HEAD_DIM: headDim,
      SCALE: headDim ** -0.5,
      MET: met,
      APART: apart,
      BLOCKS: blocks,
      STAGES: stages,
      OPERANDS: operands,
    },
    grid: foldGrid(tiles * heads),
  };
}

/**
 * Bindings: qkv f16 [T, 3 · heads · headDim], tiles u32 [tiles, 4] of `layout`, out f16 [T, heads · headDim], lse f32 [heads, T].
 * @throws GpuError where `fits` is false
 */
export function plan(
  params: AttentionParams,
  caps: Capabilities,
  layout: AttentionMmaLayout = layoutOf(params, caps, 'forward'),
): KernelPlan {
  const { rows, productFlops } = work(params);
  return {
    shader: 'attention_mma.wgsl',
    ...divideWork(params, caps, layout),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 2 * productFlops,
    bytes: rows * params.heads * (8 * params.headDim + 4),
  };
}
