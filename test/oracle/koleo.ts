/** KoLeo in float64. */

import { l2Normalize } from './l2_normalize.js';

/** Of one group: the neighbours, the distances and the loss. */
export function koleoOfGroup(
  rows: Float64Array,
  columns: number,
  epsilon = 1e-8,
): { neighbours: number[]; distances: number[]; loss: number } {
  const unit = l2Normalize(rows, columns, epsilon);
  const count = rows.length / columns;
  const neighbours: number[] = [];
  const distances: number[] = [];
  let loss = 0;
  for (let i = 0; i < count; i++) {
    let best = -Infinity;
    let j = 0;
    for (let other = 0; other < count; other++) {
      let product = other === i ? -1 : 0;
      for (let c = 0; other !== i && c < columns; c++) product += unit[i * columns + c] * unit[other * columns + c];
      if (product > best) {
        best = product;
        j = other;
      }
    }
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += (unit[i * columns + c] - unit[j * columns + c] + epsilon) ** 2;
    const distance = Math.sqrt(squares);
    neighbours.push(j);
    distances.push(distance);
    loss -= Math.log(distance + epsilon) / count;
  }
  return { neighbours, distances, loss };
}

/** Sum over consecutive groups that start at row `rowStart`. */
export function koleo(
  x: Float64Array,
  columns: number,
  { rowStart, groups, rowsPerGroup }: { rowStart: number; groups: number; rowsPerGroup: number },
): number {
  let loss = 0;
  for (let group = 0; group < groups; group++) {
    const from = (rowStart + group * rowsPerGroup) * columns;
    loss += koleoOfGroup(x.subarray(from, from + rowsPerGroup * columns), columns).loss;
  }
  return loss;
}
