/**
 * Pictures as a classifier sees them while it learns: one random resized crop each, flipped half of the time, and for
 * fine-tuning some colour jitter (spec §6.1: scale 0.08 to 1, ratio 3/4 to 4/3, nothing else).
 */

import { type CropSettings, DEFAULT_CROPS } from '../data/augment.js';
import { MultiCropLoader, type MultiCropOptions } from '../data/loader.js';
import type { ImageSource } from '../data/source.js';

/** Strengths of the colour jitter: 0 for none. */
export interface ColourJitter {
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  readonly hue: number;
}

/** One view a picture. @param size pixels of a side */
export function classificationCrops(size: number, jitter?: ColourJitter): CropSettings {
  return {
    ...DEFAULT_CROPS,
    globalSize: size,
    globalCount: 1,
    localCount: 0,
    globalScale: [0.08, 1],
    flip: 0.5,
    jitterProbability: jitter ? 1 : 0,
    ...jitter,
    grayscaleProbability: 0,
    blurProbability: { global1: 0, global2: 0, local: 0 },
    solarizeProbability: { global1: 0, global2: 0, local: 0 },
  };
}

/** One batch. */
export interface TrainingCrops {
  /** u8 [batch, size, size, 3] */
  readonly pixels: Uint8Array;
  /** [batch]: places in the source, corrupt ones already replaced. */
  readonly indices: Uint32Array;
}

/** Batches without end, in the order of SHARDED_INFINITE; batch t is a function of (source, settings, seed, t). */
export class TrainingCropLoader {
  private readonly loader: MultiCropLoader;

  /** @param options.among places of the pictures that may be shown. Default: all */
  constructor(
    source: ImageSource,
    options: Pick<MultiCropOptions, 'batchSize' | 'seed' | 'settings' | 'onBad'> & {
      readonly among?: readonly number[];
    },
  ) {
    const { among, ...rest } = options;
    this.loader = new MultiCropLoader(among ? partOf(source, among) : source, rest);
    this.placeOf = among ? (index) => among[index] : (index) => index;
  }

  private readonly placeOf: (index: number) => number;

  async next(): Promise<TrainingCrops> {
    const { globalCrops, indices } = await this.loader.next();
    return { pixels: globalCrops, indices: indices.map(this.placeOf) };
  }

  close(): Promise<void> {
    return this.loader.close();
  }
}

/** Some pictures of a source as a source of their own, which leaves the whole open. */
function partOf(source: ImageSource, places: readonly number[]): ImageSource {
  const { pixels } = source;
  return {
    path: source.path,
    length: places.length,
    ...(source.classNames ? { classNames: source.classNames } : {}),
    name: (index) => source.name(places[index]),
    label: (index) => source.label(places[index]),
    read: (index) => source.read(places[index]),
    ...(pixels ? { pixels: (index: number) => pixels.call(source, places[index]) } : {}),
    close: async () => {},
  };
}
