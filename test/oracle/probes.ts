/** What linear probes and fine-tuning compute, in float64. */

export interface LabelLoss {
  readonly loss: Float64Array;
  readonly rank: Uint32Array;
  readonly gradient: Float64Array;
}

/**
 * Softmax cross-entropy with integer labels and label smoothing, as PyTorch's documentation has it.
 * @param logits [labels.length * heads, pitch], of which the first `classes` columns count
 * @param upstream [labels.length * heads]; ones by default
 */
export function labelCrossEntropy(
  logits: ArrayLike<number>,
  labels: ArrayLike<number>,
  { classes, pitch, heads = 1, smoothing = 0 }: { classes: number; pitch: number; heads?: number; smoothing?: number },
  upstream?: ArrayLike<number>,
): LabelLoss {
  const rows = labels.length * heads;
  const loss = new Float64Array(rows);
  const rank = new Uint32Array(rows);
  const gradient = new Float64Array(rows * pitch);
  for (let r = 0; r < rows; r++) {
    const label = labels[Math.floor(r / heads)];
    const z = Array.from({ length: classes }, (_, c) => logits[r * pitch + c]);
    if (label >= classes) {
      rank[r] = classes;
      continue;
    }
    const largest = Math.max(...z);
    const logSum = largest + Math.log(z.reduce((sum, v) => sum + Math.exp(v - largest), 0));
    z.forEach((v, c) => {
      const target = smoothing / classes + (c === label ? 1 - smoothing : 0);
      loss[r] += target * (logSum - v);
      gradient[r * pitch + c] = (upstream?.[r] ?? 1) * (Math.exp(v - logSum) - target);
      if (v > z[label] || (v === z[label] && c < label)) rank[r]++;
    });
  }
  return { loss, rank, gradient };
}

/** One step of SGD with momentum, in place. `rates` holds one number a head. */
export function sgdMomentum(
  weight: Float64Array,
  velocity: Float64Array,
  gradient: ArrayLike<number>,
  rates: ArrayLike<number>,
  momentum: number,
): void {
  const perHead = weight.length / rates.length;
  for (let i = 0; i < weight.length; i++) {
    velocity[i] = momentum * velocity[i] + gradient[i];
    weight[i] -= rates[Math.floor(i / perHead)] * velocity[i];
  }
}

/** [count, 2 columns]: CLS and the mean of the tokens from `first` on. */
export function poolTokens(
  x: ArrayLike<number>,
  { count, length, first, columns }: { count: number; length: number; first: number; columns: number },
): Float64Array {
  const out = new Float64Array(2 * count * columns);
  for (let s = 0; s < count; s++) {
    for (let c = 0; c < columns; c++) {
      out[2 * s * columns + c] = x[s * length * columns + c];
      for (let token = first; token < length; token++) {
        out[(2 * s + 1) * columns + c] += x[(s * length + token) * columns + c] / (length - first);
      }
    }
  }
  return out;
}
