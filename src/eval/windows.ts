/**
 * Prediction by windows (spec §6.5.1, §6.6.1): a picture of any size is covered by overlapping windows of the size a head takes,
 * and what they say of a pixel is averaged, evenly as in mmseg's slide mode or with weights that fall off to a window's edge.
 * Rows that no later window touches are handed on at once, so that a raster needs memory for a band of itself only.
 */

import type { Box } from '../data/resize.js';

/** [width, height] of a picture whose shorter side is to be `shorterSide` pixels; its own where that is undefined. */
export function scaledSize(
  { width, height }: { readonly width: number; readonly height: number },
  shorterSide?: number,
): [number, number] {
  if (shorterSide === undefined) return [width, height];
  const scale = shorterSide / Math.min(width, height);
  return [Math.max(Math.round(width * scale), 1), Math.max(Math.round(height * scale), 1)];
}

/** Where windows begin along one side: every `stride` pixels, the last one at the end; centred on a side that is shorter. */
function starts(side: number, window: number, stride: number): number[] {
  if (side <= window) return [-Math.floor((window - side) / 2)];
  const count = Math.ceil((side - window) / stride) + 1;
  return Array.from({ length: count }, (_, i) => Math.min(i * stride, side - window));
}

/**
 * Windows that cover a picture, row by row. One that is larger than the picture reaches over its borders.
 * @param size of the picture, `window` and `stride`: [width, height]
 */
export function windowsOf(
  size: readonly [number, number],
  window: readonly [number, number],
  stride: readonly [number, number],
): Box[] {
  const [width, height] = window;
  const columns = starts(size[0], width, stride[0]);
  return starts(size[1], height, stride[1]).flatMap((y) => columns.map((x) => ({ x, y, width, height })));
}

/** How many windows a row of {@link windowsOf} has. */
export function windowColumns(width: number, window: number, stride: number): number {
  return starts(width, window, stride).length;
}

export interface WindowedPrediction {
  /** [width, height] of picture, window and stride. */
  readonly size: readonly [number, number];
  readonly window: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly channels: number;
  /** `even`: plain averages. `cosine`: weights of a raised cosine over the window, which leaves no seams. */
  readonly weights: 'even' | 'cosine';
}

/** Weights of a raised cosine, never 0, so that a pixel at the picture's corner has one. */
function cosineWeights(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / length) + 1e-3);
}

/**
 * Predicts a whole picture.
 * @param predict the map of each window, f32 [window height, window width, channels], handed on in their order
 * @param emit is given the picture's rows from the first to the last: f32 [rows, width, channels]
 */
export async function predictWindows(
  { size, window, stride, channels, weights }: WindowedPrediction,
  predict: (windows: readonly Box[], take: (index: number, values: Float32Array) => void) => Promise<void>,
  emit: (firstRow: number, rows: Float32Array) => Promise<void> | void,
): Promise<void> {
  const [width, height] = size;
  const all = windowsOf(size, window, stride);
  const down = weights === 'cosine' ? cosineWeights(window[1]) : new Float32Array(window[1]).fill(1);
  const across = weights === 'cosine' ? cosineWeights(window[0]) : new Float32Array(window[0]).fill(1);
  // A band of the picture that starts at row `top`.
  const bandRows = Math.min(window[1], height);
  let sums = new Float32Array(bandRows * width * channels);
  let totals = new Float32Array(bandRows * width);
  let top = 0;
  const flush = async (until: number): Promise<void> => {
    const rows = until - top;
    if (rows <= 0) return;
    const values = sums.slice(0, rows * width * channels);
    for (let i = 0; i < rows * width; i++) {
      for (let c = 0; c < channels; c++) values[i * channels + c] /= totals[i];
    }
    await emit(top, values);
    const [nextSums, nextTotals] = [new Float32Array(sums.length), new Float32Array(totals.length)];
    nextSums.set(sums.subarray(rows * width * channels));
    nextTotals.set(totals.subarray(rows * width));
    [sums, totals, top] = [nextSums, nextTotals, until];
  };
  for (let first = 0, end = 0; first < all.length; first = end) {
    const { y } = all[first];
    while (end < all.length && all[end].y === y) end++;
    const row = all.slice(first, end);
    await flush(Math.max(y, 0));
    await predict(row, (index, values) => {
      const { x } = row[index];
      for (let j = Math.max(-y, 0); j < window[1] && y + j < height; j++) {
        for (let i = Math.max(-x, 0); i < window[0] && x + i < width; i++) {
          const weight = down[j] * across[i];
          const to = (y + j - top) * width + x + i;
          const from = (j * window[0] + i) * channels;
          totals[to] += weight;
          for (let c = 0; c < channels; c++) sums[to * channels + c] += weight * values[from + c];
        }
      }
    });
  }
  await flush(height);
}
