/** The two-loop recursion of L-BFGS in float64, over vectors as arrays. */

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export interface Pair {
  /** Change of the point, and of the gradient. */
  readonly s: ArrayLike<number>;
  readonly y: ArrayLike<number>;
}

/**
 * Where to go next.
 * @param pairs oldest first; the newest one's curvature scales the direction
 */
export function lbfgsDirection(gradient: ArrayLike<number>, pairs: readonly Pair[]): Float64Array {
  const q = Float64Array.from(gradient);
  const shares: number[] = [];
  for (const { s, y } of [...pairs].reverse()) {
    const share = dot(s, q) / dot(s, y);
    shares.push(share);
    for (let i = 0; i < q.length; i++) q[i] -= share * y[i];
  }
  const newest = pairs.at(-1);
  if (newest) {
    const scale = dot(newest.s, newest.y) / dot(newest.y, newest.y);
    for (let i = 0; i < q.length; i++) q[i] *= scale;
  }
  pairs.forEach(({ s, y }, p) => {
    const rest = shares[pairs.length - 1 - p] - dot(y, q) / dot(s, y);
    for (let i = 0; i < q.length; i++) q[i] += rest * s[i];
  });
  return q.map((value) => -value);
}
