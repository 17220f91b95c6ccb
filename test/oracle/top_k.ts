/** The best values of a line by a full sort: falling values, equal ones by their place. */

/** Places of the `k` largest values. */
export function bestOf(line: ArrayLike<number>, k: number): number[] {
  return Array.from(line, (_, place) => place)
    .sort((a, b) => line[b] - line[a] || a - b)
    .slice(0, k);
}
