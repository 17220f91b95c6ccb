/** Gradient of the cross-entropy in the student's logits. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { CrossEntropyParams } from './cross_entropy.js';
import { wideRowLanes } from './wide_rows.js';

/**
 * Bindings: student [rows, columns], targets [targetRows, columns], pairs u32 [rows, pairs], weights [rows],
 * statistics [rows, 2], term of each row u32 [rows], upstream [terms], dstudent [rows, columns].
 */
export function plan({ rows, columns, targetRows, pairs, temperature }: CrossEntropyParams): KernelPlan {
  const width = wideRowLanes(columns);
  const pieces = Math.ceil(columns / (4 * width));
  return {
    shader: 'cross_entropy_backward.wgsl',
    prelude: { WIDTH: width, R: rows, K: columns, PIECES: pieces, PAIRS: pairs, TAU: temperature },
    grid: foldGrid(rows * pieces),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: (6 + pairs) * rows * columns,
    bytes: 4 * (2 * rows + targetRows) * columns,
  };
}
