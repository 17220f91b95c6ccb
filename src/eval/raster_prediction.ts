/**
 * Maps of GeoTIFFs of any size: windows are read, predicted and blended band by band, and rows are written as soon as no window
 * touches them any more. The map has the pixels and the georeference of its picture; mirror images are not averaged here.
 */

import { PADDING } from '../data/dense_views.js';
import { type GeoTiff, HeightRasterWriter } from '../io/geotiff.js';
import type { PixelHead } from './pixel_head.js';
import type { PixelPredictor, PredictionMode, ReadWindow } from './pixel_prediction.js';

/** For maps of pictures whose own value could be a height, or that have none. */
const NO_DATA = -9999;

/** What stands for "no data" in a map of this picture: its own value, where no prediction can be mistaken for it. */
export function mapNoData({ noData }: GeoTiff, { config }: PixelHead): number {
  if (noData === undefined) return NO_DATA;
  const predictable =
    config.task === 'segment' ? noData >= 0 && noData < 256 : noData >= config.min && noData <= config.max;
  return predictable ? NO_DATA : noData;
}

/** Reads windows of a file; the rows of one row of windows are read once. Outside the file is the mean colour. */
function fileWindows(file: GeoTiff): ReadWindow {
  let band: { readonly top: number; readonly rows: number; readonly pixels: Promise<Uint8Array> } | undefined;
  return async ({ x, y, width, height }, into) => {
    const top = Math.max(y, 0);
    const rows = Math.min(y + height, file.height) - top;
    if (band?.top !== top || band.rows !== rows) {
      band = { top, rows, pixels: file.rgb({ x: 0, y: top, width: file.width, height: rows }) };
    }
    const pixels = await band.pixels;
    for (let i = 0; i < into.length; i++) into[i] = PADDING[i % 3];
    const [left, right] = [Math.max(x, 0), Math.min(x + width, file.width)];
    for (let row = 0; row < rows; row++) {
      const from = row * file.width;
      into.set(pixels.subarray((from + left) * 3, (from + right) * 3), ((top + row - y) * width + left - x) * 3);
    }
  };
}

/** Whether each pixel of some rows has data: not all of its colours are the file's no-data value. */
async function hasData(file: GeoTiff, firstRow: number, rows: number): Promise<Uint8Array | undefined> {
  const { noData } = file;
  if (noData === undefined || Number.isNaN(noData)) return undefined;
  const rgb = await file.rgb({ x: 0, y: firstRow, width: file.width, height: rows });
  return Uint8Array.from({ length: rgb.length / 3 }, (_, i) =>
    Number(rgb[3 * i] !== noData || rgb[3 * i + 1] !== noData || rgb[3 * i + 2] !== noData),
  );
}

/**
 * Writes the map of a GeoTIFF as another: float32 metres, or labels as numbers.
 * @param progress called with the rows done
 */
export async function predictRaster(
  predictor: PixelPredictor,
  head: PixelHead,
  file: GeoTiff,
  mode: PredictionMode,
  out: string,
  progress: (rows: number) => void,
): Promise<void> {
  const { width, height } = file;
  const { min, max } = head.config;
  const channels = head.outputs;
  const writer = await HeightRasterWriter.create(out, {
    width,
    height,
    noData: mapNoData(file, head),
    reference: file.reference,
  });
  await predictor.predict(
    fileWindows(file),
    [width, height],
    mode.window,
    mode.stride,
    'cosine',
    async (firstRow, values) => {
      const rows = values.length / channels / width;
      const data = await hasData(file, firstRow, rows);
      const map = Float32Array.from({ length: rows * width }, (_, i) => {
        if (data && !data[i]) return Number.NaN;
        if (head.config.task !== 'segment') return Math.min(Math.max(values[i] - head.offset, min), max);
        let best = 0;
        for (let k = 1; k < channels; k++) if (values[i * channels + k] > values[i * channels + best]) best = k;
        return best;
      });
      await writer.writeRows(map);
      progress(firstRow + rows);
    },
  );
  await writer.close();
}
