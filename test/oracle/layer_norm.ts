/** Layer-norm in float64. */

export function layerNorm(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  columns: number,
  rows?: ArrayLike<number>,
  epsilon = 1e-6,
): Float64Array {
  const count = rows ? rows.length : x.length / columns;
  const y = new Float64Array(count * columns);
  for (let r = 0; r < count; r++) {
    const from = (rows ? rows[r] : r) * columns;
    let mean = 0;
    for (let c = 0; c < columns; c++) mean += x[from + c] / columns;
    let variance = 0;
    for (let c = 0; c < columns; c++) variance += (x[from + c] - mean) ** 2 / columns;
    const rstd = 1 / Math.sqrt(variance + epsilon);
    for (let c = 0; c < columns; c++) y[r * columns + c] = (x[from + c] - mean) * rstd * weight[c] + bias[c];
  }
  return y;
}
