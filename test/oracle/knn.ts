/** kNN classification in float64, by brute force: every similarity, a full sort, one softmax over the largest k. */

/** Cosines of one query to every row, [n]. */
export function cosines(query: ArrayLike<number>, train: ArrayLike<number>, dim: number): Float64Array {
  const norm = (at: ArrayLike<number>, from: number): number => {
    let squares = 0;
    for (let c = 0; c < dim; c++) squares += at[from + c] ** 2;
    return Math.max(Math.sqrt(squares), 1e-12);
  };
  const own = norm(query, 0);
  return Float64Array.from({ length: train.length / dim }, (_, r) => {
    let dot = 0;
    for (let c = 0; c < dim; c++) dot += query[c] * train[r * dim + c];
    return dot / (own * norm(train, r * dim));
  });
}

/** Rows by falling similarity, equal ones by their number. */
export function ranking(similarities: Float64Array): number[] {
  return Array.from(similarities, (_, r) => r).sort((a, b) => similarities[b] - similarities[a] || a - b);
}

/** Percent right among the first 1 and 5 classes, for every k. */
export function knnOracle(
  train: { features: Float32Array; labels: readonly number[] },
  test: { features: Float32Array; labels: readonly number[] },
  dim: number,
  ks: readonly number[],
  temperature: number,
): { k: number; top1: number; top5: number }[] {
  const classes = Math.max(...train.labels) + 1;
  const most = Math.max(...ks);
  const right = ks.map(() => [0, 0]);
  test.labels.forEach((label, q) => {
    const similarities = cosines(test.features.subarray(q * dim, (q + 1) * dim), train.features, dim);
    const nearest = ranking(similarities).slice(0, most);
    const exponentials = nearest.map((row) => Math.exp(similarities[row] / temperature));
    const sum = exponentials.reduce((a, b) => a + b, 0);
    ks.forEach((k, i) => {
      const votes = new Float64Array(classes);
      nearest.slice(0, k).forEach((row, j) => {
        votes[train.labels[row]] += exponentials[j] / sum;
      });
      const order = ranking(votes);
      if (order[0] === label) right[i][0]++;
      if (order.slice(0, 5).includes(label)) right[i][1]++;
    });
  });
  return ks.map((k, i) => ({
    k,
    top1: (100 * right[i][0]) / test.labels.length,
    top5: (100 * right[i][1]) / test.labels.length,
  }));
}
