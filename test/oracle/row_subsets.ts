/** Stochastic depth's row subsets by plain lists: permute the sequences, keep the first s, write their rows down. */

import { NO_ROW } from '../../src/tensor/rows.js';

/** rank[item] = its place in the order of (key, item). */
export function ranksOfKeys(keys: ArrayLike<number>): number[] {
  const order = Array.from(keys, (_, item) => item).sort((a, b) => keys[a] - keys[b] || a - b);
  const ranks = new Array<number>(order.length);
  order.forEach((item, rank) => {
    ranks[item] = rank;
  });
  return ranks;
}

/** The kept token rows, in the order of the kept matrix. */
export function keptRows(
  permutations: readonly (readonly number[])[],
  groups: readonly { count: number; length: number }[],
  kept: readonly number[],
): number[] {
  let first = 0;
  return groups.flatMap(({ count, length }, g) => {
    const start = first;
    first += count * length;
    return permutations[g]
      .slice(0, kept[g])
      .flatMap((sequence) => Array.from({ length }, (_, t) => start + sequence * length + t));
  });
}

export function inverse(index: ArrayLike<number>, sourceRows: number): Uint32Array {
  const rows = new Uint32Array(sourceRows).fill(NO_ROW);
  for (let r = 0; r < index.length; r++) rows[index[r]] = r;
  return rows;
}
