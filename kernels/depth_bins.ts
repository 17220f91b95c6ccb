/** Depth as the expectation over bins whose shares are rectified logits (spec §6.5.2). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { raggedLanes } from './pixel_cross_entropy.js';

export interface DepthBinsParams {
  readonly rows: number;
  /** Any number. */
  readonly bins: number;
}

/** Bindings: logits f32 [rows, bins], centres f32 [bins], depth f32 [rows], sums f32 [rows]. */
export function plan({ rows, bins }: DepthBinsParams, caps: Capabilities): KernelPlan {
  const { lanes, groups } = raggedLanes(bins, caps);
  return {
    shader: 'depth_bins.wgsl',
    prelude: { LANES: lanes },
    parameters: [rows, bins],
    grid: foldGrid(groups(rows)),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 5 * rows * bins,
    bytes: 4 * rows * bins + 8 * rows,
  };
}
