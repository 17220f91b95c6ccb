/** Softmax cross-entropy of rows for several classifiers side by side, in float64. */

export interface GroupedCase {
  readonly logits: ArrayLike<number>;
  readonly labels: ArrayLike<number>;
  readonly groups: number;
  readonly classes: number;
  /** Logits of a row, at least groups × classes. */
  readonly pitch: number;
}

/** losses [rows, groups], and the gradient of their sum [rows, pitch], 0 where no class is. */
export function groupedCrossEntropy({ logits, labels, groups, classes, pitch }: GroupedCase): {
  readonly losses: Float64Array;
  readonly gradient: Float64Array;
} {
  const rows = labels.length;
  const losses = new Float64Array(rows * groups);
  const gradient = new Float64Array(rows * pitch);
  for (let r = 0; r < rows; r++) {
    for (let g = 0; g < groups; g++) {
      const at = r * pitch + g * classes;
      let largest = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < classes; c++) largest = Math.max(largest, logits[at + c]);
      let others = 0;
      for (let c = 0; c < classes; c++) if (c !== labels[r]) others += Math.exp(logits[at + c] - largest);
      const own = Math.exp(logits[at + labels[r]] - largest);
      // log(1 + others / own): exact also where the loss is tiny.
      losses[r * groups + g] = Math.log1p(others / own);
      for (let c = 0; c < classes; c++) {
        const share = c === labels[r] ? -others : Math.exp(logits[at + c] - largest);
        gradient[at + c] = share / (own + others);
      }
    }
  }
  return { losses, gradient };
}
