/** L2 normalisation of rows in float64. */

export function l2Normalize(
  x: ArrayLike<number>,
  columns: number,
  epsilon = 1e-12,
  rowStart = 0,
  rows = x.length / columns,
): Float64Array {
  const y = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const from = (rowStart + r) * columns;
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += x[from + c] ** 2;
    const norm = Math.max(Math.sqrt(squares), epsilon);
    for (let c = 0; c < columns; c++) y[r * columns + c] = x[from + c] / norm;
  }
  return y;
}
