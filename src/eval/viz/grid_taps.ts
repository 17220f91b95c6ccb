/** Linear interpolation of values that sit at the centres of patches. */

/** For each pixel along one side: the two patches around its centre, and the share of the second. */
export interface GridTaps {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly share: Float64Array;
}

/** @param smooth without it, each pixel takes the patch that it lies in */
export function gridTaps(pixels: number, patches: number, smooth = true): GridTaps {
  const low = new Int32Array(pixels);
  const high = new Int32Array(pixels);
  const share = new Float64Array(pixels);
  for (let p = 0; p < pixels; p++) {
    const at = ((p + 0.5) * patches) / pixels;
    const centre = smooth ? Math.min(Math.max(at - 0.5, 0), patches - 1) : Math.floor(at);
    low[p] = Math.floor(centre);
    high[p] = Math.min(low[p] + 1, patches - 1);
    share[p] = centre - low[p];
  }
  return { low, high, share };
}

/** A grid of [rows, columns] at [height, width] pixels. */
export function enlargeGrid(
  values: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
  [height, width]: readonly [number, number],
): Float64Array {
  const [down, across] = [gridTaps(height, rows), gridTaps(width, columns)];
  const out = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom, v] = [down.low[y] * columns, down.high[y] * columns, down.share[y]];
    for (let x = 0; x < width; x++) {
      const [left, right, u] = [across.low[x], across.high[x], across.share[x]];
      const above = (1 - u) * values[top + left] + u * values[top + right];
      const below = (1 - u) * values[bottom + left] + u * values[bottom + right];
      out[y * width + x] = (1 - v) * above + v * below;
    }
  }
  return out;
}
