/** Weight normalisation in float64. */

export function weightNorm(v: ArrayLike<number>, g: ArrayLike<number>, columns: number): Float64Array {
  const w = new Float64Array(v.length);
  for (let k = 0; k < g.length; k++) {
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += v[k * columns + c] ** 2;
    const scale = g[k] / Math.sqrt(squares);
    for (let c = 0; c < columns; c++) w[k * columns + c] = scale * v[k * columns + c];
  }
  return w;
}
