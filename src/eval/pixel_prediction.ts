/**
 * What a trained head says of whole pictures (spec §6.5.1, §6.6.1): windows through network and head in one program, maps
 * brought to pixels on the CPU, which costs less than reading them back at full size.
 *
 * Padding is cut off again before a map is resized to the picture. The official depth code stretches the padded map over the
 * picture instead, an error of up to a patch at its borders, which is not followed.
 */

import { plainView, renderPicture } from '../data/dense_views.js';
import type { RgbImage } from '../data/picture.js';
import { type Box, resizeRgb } from '../data/resize.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { FeatureMap } from '../tensor/feature_map.js';
import { Graph } from '../tensor/graph.js';
import { type PixelTokens, recordTokens } from './dense_tokens.js';
import type { FrozenModel } from './frozen_model.js';
import { type PixelHead, readsNormed } from './pixel_head.js';
import { predictWindows, scaledSize, windowColumns } from './windows.js';

/** A map of values a pixel, f32 [height, width, channels]. */
export interface ValueMap {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly values: Float32Array;
}

/** Lower neighbour and share of the upper one along one side; edges are repeated (align_corners false). */
function taps(from: number, to: number): { readonly low: Int32Array; readonly share: Float32Array } {
  const low = new Int32Array(to);
  const share = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    low[i] = Math.min(Math.floor(at), Math.max(from - 2, 0));
    share[i] = from > 1 ? at - low[i] : 0;
  }
  return { low, share };
}

/** Bilinear resize, as PyTorch's `interpolate(align_corners=False)`. */
export function resizeMap(
  { width: w, height: h, channels: C, values }: ValueMap,
  width: number,
  height: number,
): ValueMap {
  if (w === width && h === height) return { width, height, channels: C, values };
  const out = new Float32Array(width * height * C);
  const [across, down] = [taps(w, width), taps(h, height)];
  for (let y = 0, to = 0; y < height; y++) {
    const upper = down.low[y] * w;
    const lower = Math.min(down.low[y] + 1, h - 1) * w;
    const toLower = down.share[y];
    for (let x = 0; x < width; x++) {
      const left = across.low[x];
      const right = Math.min(left + 1, w - 1);
      const toRight = across.share[x];
      const [a, b, c, d] = [(upper + left) * C, (upper + right) * C, (lower + left) * C, (lower + right) * C];
      for (let k = 0; k < C; k++, to++) {
        const above = values[a + k] + (values[b + k] - values[a + k]) * toRight;
        const below = values[c + k] + (values[d + k] - values[c + k]) * toRight;
        out[to] = above + (below - above) * toLower;
      }
    }
  }
  return { width, height, channels: C, values: out };
}

/** The pixels that each pixel of a coarser side covers, the first and last one in part: weights from `first[i]` on. */
function coverage(from: number, to: number): { readonly first: number; readonly weights: readonly number[] }[] {
  return Array.from({ length: to }, (_, i) => {
    const [begin, end] = [(i * from) / to, ((i + 1) * from) / to];
    const first = Math.floor(begin);
    const last = Math.min(Math.ceil(end), from);
    const weights = Array.from({ length: last - first }, (_, k) => {
      const [left, right] = [Math.max(begin, first + k), Math.min(end, first + k + 1)];
      return (right - left) / (end - begin);
    });
    return { first, weights };
  });
}

/** Mean over the part of a map of one channel that each pixel of a coarser one covers. */
export function averageMap(map: ValueMap, width: number, height: number): ValueMap {
  const values = new Float32Array(width * height);
  const [across, down] = [coverage(map.width, width), coverage(map.height, height)];
  down.forEach((rows, y) => {
    across.forEach((columns, x) => {
      let sum = 0;
      rows.weights.forEach((rowWeight, j) => {
        const from = (rows.first + j) * map.width + columns.first;
        columns.weights.forEach((weight, i) => {
          sum += rowWeight * weight * map.values[from + i];
        });
      });
      values[y * width + x] = sum;
    });
  });
  return { width, height, channels: 1, values };
}

/** The map mirrored left to right, in place. */
export function mirrorMap({ width, height, channels, values }: ValueMap): void {
  for (let y = 0; y < height; y++) {
    for (let left = 0, right = width - 1; left < right; left++, right--) {
      for (let k = 0; k < channels; k++) {
        const [a, b] = [(y * width + left) * channels + k, (y * width + right) * channels + k];
        [values[a], values[b]] = [values[b], values[a]];
      }
    }
  }
}

/** Reads a window of a picture into u8 [height, width, 3]; it may reach over the borders. */
export type ReadWindow = (window: Box, into: Uint8Array) => void | Promise<void>;

/** Windows of a picture in memory; what lies outside has the mean colour. */
export function pictureWindows(image: RgbImage, mirrored = false): ReadWindow {
  return ({ x, y, width, height }, into) => {
    const from = mirrored ? image.width - x - width : x;
    renderPicture(image, plainView(image, [image.width, image.height], { x: from, y, width, height }, mirrored), into);
  };
}

interface WindowProgram {
  readonly program: Program;
  readonly tokens: PixelTokens;
  readonly map: FeatureMap;
}

/** Programs are kept for this many sizes of windows and rows of them. */
const SIZES_KEPT = 8;

/** One head on one model. */
export class PixelPredictor {
  private readonly programs = new Map<string, WindowProgram>();

  /** @param batch most windows a pass */
  constructor(
    private readonly gpu: Gpu,
    private readonly model: FrozenModel,
    private readonly head: PixelHead,
    private readonly batch: number,
  ) {}

  /**
   * The head's map for a picture of any size, by windows.
   * @param size, window, stride [width, height]; the window's sides are multiples of the patch size
   */
  async predict(
    read: ReadWindow,
    size: readonly [number, number],
    window: readonly [number, number],
    stride: readonly [number, number],
    weights: 'even' | 'cosine',
    emit: (firstRow: number, rows: Float32Array) => Promise<void> | void,
  ): Promise<void> {
    const columns = windowColumns(size[0], window[0], stride[0]);
    // Windows come row by row; a batch larger than a row would compute nothing more.
    const batch = Math.min(this.batch, columns);
    const { program, tokens, map } = await this.open(window, batch);
    const channels = this.head.outputs;
    const bytes = window[0] * window[1] * 3;
    await predictWindows(
      { size, window, stride, channels, weights },
      async (boxes, take) => {
        for (let first = 0; first < boxes.length; first += batch) {
          const n = Math.min(batch, boxes.length - first);
          const pixels = new Uint8Array(n * bytes);
          for (let i = 0; i < n; i++) await read(boxes[first + i], pixels.subarray(i * bytes, (i + 1) * bytes));
          await tokens.write(pixels, n);
          program.run();
          const values = (await program.read(map.values)) as Float32Array;
          const each = map.height * map.width * channels;
          for (let i = 0; i < n; i++) {
            const own = {
              width: map.width,
              height: map.height,
              channels,
              values: values.subarray(i * each, (i + 1) * each),
            };
            take(first + i, resizeMap(own, window[0], window[1]).values);
          }
        }
      },
      emit,
    );
  }

  /** {@link predict} for a picture in memory, collected. @param mirrored the picture is seen mirrored, the map as it is */
  async picture(
    image: RgbImage,
    window: readonly [number, number],
    stride: readonly [number, number],
    weights: 'even' | 'cosine',
    mirrored = false,
  ): Promise<ValueMap> {
    const { width, height } = image;
    const channels = this.head.outputs;
    const values = new Float32Array(width * height * channels);
    await this.predict(pictureWindows(image, mirrored), [width, height], window, stride, weights, (row, rows) =>
      values.set(rows, row * width * channels),
    );
    const map = { width, height, channels, values };
    if (mirrored) mirrorMap(map);
    return map;
  }

  private async open([width, height]: readonly [number, number], batch: number): Promise<WindowProgram> {
    const key = `${width} ${height} ${batch}`;
    const there = this.programs.get(key);
    if (there) return there;
    if (this.programs.size >= SIZES_KEPT) {
      const [oldest, one] = this.programs.entries().next().value!;
      this.programs.delete(oldest);
      close(one);
    }
    const { head } = this;
    const program = new Program(this.gpu, `prediction at ${height} x ${width}`);
    const graph = new Graph(program);
    const tokens = await recordTokens(graph, this.model, {
      size: [height, width],
      batch,
      blocks: head.config.blocks,
      norm: readsNormed(head.config.task),
    });
    const map = graph.withoutGradient(() => head.record(graph, tokens.tokens, 'evaluation'));
    program.keep(map.values);
    const opened = { program, tokens, map };
    try {
      await program.compile();
    } catch (error) {
      close(opened);
      throw error;
    }
    this.programs.set(key, opened);
    return opened;
  }

  dispose(): void {
    for (const one of this.programs.values()) close(one);
    this.programs.clear();
  }
}

function close({ program, tokens }: WindowProgram): void {
  program.dispose();
  tokens.dispose();
}

/** How a picture is gone through. */
export interface PredictionMode {
  /** Shorter side in pixels that pictures are brought to; undefined: their own. */
  readonly shorterSide?: number;
  /** `slide`: windows of `window`. `whole`: one window, the picture padded to whole patches on all sides. */
  readonly mode: 'slide' | 'whole';
  /** [width, height], and what lies between the starts of two windows. */
  readonly window: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly weights: 'even' | 'cosine';
  /** Also the mirror image, averaged. */
  readonly flip: boolean;
  /** Factors of the picture's size whose predictions are averaged. */
  readonly scales: readonly number[];
  /** Sides of a window are multiples of this. */
  readonly patchMultiple: number;
}

/** Labels of a picture, u8 [height, width], at its own size: softmax averaged over scales and mirror images, then the largest. */
export async function predictLabels(
  predictor: PixelPredictor,
  image: RgbImage,
  mode: PredictionMode,
): Promise<Uint8Array> {
  const { width, height } = image;
  let channels = 0;
  let total: Float32Array | undefined;
  for await (const map of mapsOf(predictor, image, mode)) {
    channels = map.channels;
    const probabilities = softmax(resizeMap(map, width, height));
    if (total) for (let i = 0; i < total.length; i++) total[i] += probabilities[i];
    else total = probabilities;
  }
  const labels = new Uint8Array(width * height);
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let k = 1; k < channels; k++) if (total![i * channels + k] > total![i * channels + best]) best = k;
    labels[i] = best;
  }
  return labels;
}

/** Over the channels of each pixel. */
function softmax({ channels, values }: ValueMap): Float32Array {
  const out = new Float32Array(values.length);
  for (let from = 0; from < values.length; from += channels) {
    let largest = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < channels; k++) largest = Math.max(largest, values[from + k]);
    let sum = 0;
    for (let k = 0; k < channels; k++) sum += out[from + k] = Math.exp(values[from + k] - largest);
    for (let k = 0; k < channels; k++) out[from + k] /= sum;
  }
  return out;
}

/** Metres a pixel, averaged over mirror images, at the size of the picture that was predicted. */
export async function predictMetres(
  predictor: PixelPredictor,
  head: PixelHead,
  image: RgbImage,
  mode: PredictionMode,
): Promise<ValueMap> {
  const { min, max } = head.config;
  let sum: ValueMap | undefined;
  let count = 0;
  for await (const map of mapsOf(predictor, image, mode)) {
    if (sum) {
      const { values } = resizeMap(map, sum.width, sum.height);
      for (let i = 0; i < values.length; i++) sum.values[i] += values[i];
    } else sum = map;
    count++;
  }
  const { width, height, values } = sum!;
  const metres = values.map((value) => Math.min(Math.max(value / count - head.offset, min), max));
  return { width, height, channels: 1, values: metres };
}

/** One map a scale and mirror image. */
async function* mapsOf(
  predictor: PixelPredictor,
  image: RgbImage,
  mode: PredictionMode,
): AsyncGenerator<ValueMap, void, undefined> {
  for (const scale of mode.scales) {
    const [width, height] = scaledSize(image, mode.shorterSide).map((side) => Math.max(Math.round(side * scale), 1));
    const scaled = width === image.width && height === image.height ? image : resizeRgb(image, width, height);
    const padded = (side: number): number => Math.ceil(side / mode.patchMultiple) * mode.patchMultiple;
    const window = mode.mode === 'whole' ? ([padded(width), padded(height)] as const) : mode.window;
    const stride = mode.mode === 'whole' ? window : mode.stride;
    for (const mirrored of mode.flip ? [false, true] : [false]) {
      yield await predictor.picture(scaled, window, stride, mode.weights, mirrored);
    }
  }
}
