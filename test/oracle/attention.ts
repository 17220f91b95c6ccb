/** Attention inside packed sequences in float64, with the score matrix. */

import type { PackedSequences } from '../../src/tensor/sequences.js';

/** @param qkv [T, 3 D] → out [T, D] and lse [heads, T] */
export function attention(
  qkv: ArrayLike<number>,
  heads: number,
  headDim: number,
  sequences: PackedSequences,
): { out: Float64Array; lse: Float64Array } {
  const width = heads * headDim;
  const rows = qkv.length / (3 * width);
  const out = new Float64Array(rows * width);
  const lse = new Float64Array(heads * rows);
  let start = 0;
  for (const { count, length } of sequences) {
    for (let s = 0; s < count; s++, start += length) {
      for (let head = 0; head < heads; head++) {
        for (let r = start; r < start + length; r++) {
          const q = r * 3 * width + head * headDim;
          const scores = Array.from({ length }, (_, j) => {
            const k = (start + j) * 3 * width + width + head * headDim;
            let score = 0;
            for (let d = 0; d < headDim; d++) score += qkv[q + d] * qkv[k + d];
            return score / Math.sqrt(headDim);
          });
          const largest = scores.reduce((a, b) => Math.max(a, b));
          const weights = scores.map((score) => Math.exp(score - largest));
          const total = weights.reduce((a, b) => a + b);
          lse[head * rows + r] = largest + Math.log(total);
          for (let j = 0; j < length; j++) {
            const v = (start + j) * 3 * width + 2 * width + head * headDim;
            for (let d = 0; d < headDim; d++) {
              out[r * width + head * headDim + d] += (weights[j] / total) * qkv[v + d];
            }
          }
        }
      }
    }
  }
  return { out, lse };
}
