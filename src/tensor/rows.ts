/** Row subsets: which rows of a packed matrix an operator works on, and where each row went. */

import type { Tensor } from '../gpu/tensor.js';

/** Marks a row that no subset row was made from. */
export const NO_ROW = 0xffffffff;

/**
 * Kept rows of a matrix of N rows. Both tables are data (inputs or results of a kernel), since the rows change every step.
 * A row is kept at most once.
 */
export interface RowSubset {
  /** u32 [kept]: the source row of each kept row. */
  readonly index: Tensor;
  /** u32 [N]: the kept row made from each source row, or NO_ROW. */
  readonly inverse: Tensor;
}

/** Rows to read; the way back is needed only where a gradient is. */
export type RowSelection = RowSubset | { readonly index: Tensor; readonly inverse?: undefined };
