/** Attention weights of the CLS token in float64. */

/** @param qkv [count length, 3, heads, headDim] → [count, heads, length] */
export function clsAttention(
  qkv: ArrayLike<number>,
  heads: number,
  headDim: number,
  count: number,
  length: number,
): Float64Array {
  const width = heads * headDim;
  const weights = new Float64Array(count * heads * length);
  for (let s = 0; s < count; s++) {
    for (let h = 0; h < heads; h++) {
      const row = s * length * 3 * width + h * headDim;
      const scores = Array.from({ length }, (_, j) => {
        let score = 0;
        for (let c = 0; c < headDim; c++) score += qkv[row + c] * qkv[row + (3 * j + 1) * width + c];
        return score / Math.sqrt(headDim);
      });
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
      scores.forEach((score, j) => {
        weights[(s * heads + h) * length + j] = Math.exp(score - largest) / total;
      });
    }
  }
  return weights;
}
