/** Packed sequences: how a matrix of T token rows divides into sequences that do not see each other (spec §1.8). */

import { GpuError } from '../errors.js';

/** `count` consecutive sequences of `length` rows each. */
export interface SequenceGroup {
  readonly count: number;
  readonly length: number;
}

/** The groups in the order of their rows; together they tile the matrix. Fixed for a program. */
export type PackedSequences = readonly SequenceGroup[];

/** Rows of the packed matrix. Throws GpuError for a count or length that is not a positive integer. */
export function totalRows(sequences: PackedSequences): number {
  let rows = 0;
  for (const { count, length } of sequences) {
    if (!Number.isInteger(count) || !Number.isInteger(length) || count < 1 || length < 1) {
      throw new GpuError(`${count} sequences of ${length} tokens cannot be packed: both must be positive integers`);
    }
    rows += count * length;
  }
  return rows;
}

/** The first row of group `index`; with `index` equal to the number of groups, the row after the last. */
export function startOfGroup(sequences: PackedSequences, index: number): number {
  return totalRows(sequences.slice(0, index));
}
