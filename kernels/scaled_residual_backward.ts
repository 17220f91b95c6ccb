/** Gradients of the residual add: the branch's, and where wanted the first stage of LayerScale's. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork, type RowParts } from './column_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface ScaledResidualBackwardParams extends RowParts {
  /** Rows of the branch. */
  readonly rows: number;
  readonly columns: number;
  readonly subset: boolean;
  readonly gamma: boolean;
  /** Whether LayerScale's gradient is summed here, which needs the branch. */
  readonly gammaGradient: boolean;
  /** Of dout, branch and dbranch. */
  readonly storage?: Storage;
}

/**
 * Bindings: dout [N, columns], branch [rows, columns], gamma f32 [columns], row index u32 [rows], scale f32 [rows],
 * dbranch [rows, columns], partial f32 [parts, columns]. Any bound tensor stands in for an input that is not used.
 */
export function plan(
  { rows, columns, parts, rowsPerPart, subset, gamma, gammaGradient, storage = 'f32' }: ScaledResidualBackwardParams,
  caps: Capabilities,
): KernelPlan {
  const { groups, prelude } = columnWork('scaled_residual_backward', columns, caps);
  return {
    shader: 'scaled_residual_backward.wgsl',
    includes: [quadInclude(storage)],
    prelude: {
      ...prelude,
      R: rows,
      ROWS_PER_PART: rowsPerPart,
      SUBSET: subset,
      GAMMA: gamma,
      GAMMA_GRADIENT: gammaGradient,
    },
    grid: [groups, parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: (gammaGradient ? 4 : 2) * rows * columns,
    bytes:
      storedBytes(storage) * (gammaGradient ? 3 : 2) * rows * columns +
      4 * columns * ((gamma ? 1 : 0) + (gammaGradient ? parts : 0)) +
      (subset ? 8 * rows : 0),
  };
}
