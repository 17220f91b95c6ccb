/** Moves the center towards the mean of this step's teacher logits (spec §2.2). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { tileParameters } from './used_rows.js';

export interface CenterUpdateParams {
  /** Rows of the set: the divisor of the mean without `counted`. */
  readonly rows: number;
  /** Prototypes. */
  readonly columns: number;
  readonly counted: boolean;
  readonly parts: number;
  readonly momentum: number;
}

/** Bindings: partial [parts, columns], count u32 [1] (any tensor without `counted`), center [columns] (in place). */
export function plan({ rows, columns, counted, parts, momentum }: CenterUpdateParams): KernelPlan {
  return {
    shader: 'center_update.wgsl',
    prelude: { TILE: 3, K: columns, COUNTED: counted, PARTS: parts, MOMENTUM: momentum },
    parameters: tileParameters({ rows, before: 0, columns, counted }),
    grid: [Math.ceil(columns / 64), 1, 1],
    bindings: ['read', 'read', 'read_write'],
    flops: (parts + 4) * columns,
    bytes: 4 * (parts + 2) * columns,
  };
}
