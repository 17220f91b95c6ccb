/**
 * Attention for adapters that run on a CPU and have subgroups: registers only, without barriers; what the lanes of a subgroup
 * share, one loads and hands to the others. Bindings are those of the tiled kernels; the tables are not.
 */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { type AttentionParams, countTiles, forwardCost } from './attention.js';
import { quadInclude } from './storage.js';

/** Rows of a head that a workgroup owns: two matrices of 4 x 4. */
export const OWNED_ROWS = 8;

/** Quads of output columns a lane, each with the accumulators of eight rows. */
const MOST_COLUMNS = 4;

/** Whether the kernels take these heads on this adapter. A workgroup is one subgroup, so its size must be known. */
export function fits({ headDim }: AttentionParams, caps: Capabilities): boolean {
  const lanes = caps.subgroupMaxSize;
  return (
    caps.software &&
    caps.subgroups &&
    caps.subgroupMinSize === lanes &&
    [4, 8, 16].includes(lanes) &&
    headDim % 8 === 0 &&
    headDim <= 4 * MOST_COLUMNS * lanes
  );
}

/** Includes, prelude and grid of the kernels that include lib/attention_direct.wgsl. */
export function divideWork(
  { heads, headDim, sequences, storage = 'f32' }: AttentionParams,
  caps: Capabilities,
): Pick<KernelPlan, 'includes' | 'prelude' | 'grid'> {
  return {
    includes: [quadInclude(storage)],
    prelude: { HEADS: heads, HEAD_DIM: headDim, SCALE: headDim ** -0.5, LANES: caps.subgroupMaxSize },
    grid: foldGrid(countTiles(sequences, OWNED_ROWS) * heads),
  };
}

/** Bindings: those of `attention`. For params and adapters for which `fits` holds. */
export function plan(params: AttentionParams, caps: Capabilities): KernelPlan {
  return {
    shader: 'attention_direct.wgsl',
    ...divideWork(params, caps),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    ...forwardCost(params),
  };
}
