/** A dense source as an evaluation uses it: what cannot be used is left out and said, decoded pairs are kept while they fit. */

import { type DensePair, type DenseSource, measuredPixels, selectPairs, type TargetMap } from '../data/dense_source.js';
import { Gate } from '../data/gate.js';
import { CorruptPicture } from '../data/picture.js';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import { DataError, UsageError } from '../errors.js';

/** Decoded pairs are kept up to this size; the rest is decoded again each time. */
const CACHE_BYTES = 1 << 30;
const DECODES_IN_FLIGHT = 8;

export interface DenseSet {
  readonly path: string;
  readonly length: number;
  /** The median of the pictures' shorter sides, and of their longer ones, in pixels. */
  readonly medianSize: { readonly shorter: number; readonly longer: number };
  /** Largest label; -1 without labels. */
  readonly highestLabel: number;
  /** What was left out and why, in sentences. */
  readonly notes: readonly string[];
  name(index: number): string;
  pair(index: number): Promise<DensePair>;
}

/**
 * Reads every pair once.
 * @param progress called after each
 * @throws DataError where nothing can be used
 */
export async function openDenseSet(source: DenseSource, progress: (done: number) => void): Promise<DenseSet> {
  const kept = new Map<number, DensePair>();
  let room = CACHE_BYTES;
  const gate = new Gate(DECODES_IN_FLIGHT);
  const corrupt: string[] = [];
  const empty: string[] = [];
  const sides: { shorter: number; longer: number }[] = [];
  const usable: number[] = [];
  let highestLabel = -1;
  let done = 0;
  const found = await Promise.all(
    Array.from({ length: source.length }, (_, i) =>
      gate.run(async () => {
        try {
          const pair = await source.read(i);
          const bytes = pair.picture.data.byteLength + pair.target.values.byteLength;
          if (bytes <= room) {
            room -= bytes;
            kept.set(i, pair);
          }
          return {
            measured: measuredPixels(pair.target),
            sides: { width: pair.picture.width, height: pair.picture.height },
            highest: pair.target.values instanceof Uint8Array ? highestOf(pair.target.values) : -1,
          };
        } catch (error) {
          if (!(error instanceof CorruptPicture)) throw error;
          return error;
        } finally {
          progress(++done);
        }
      }),
    ),
  );
  found.forEach((one, i) => {
    if (one instanceof CorruptPicture) corrupt.push(one.message);
    else if (one.measured === 0) empty.push(source.name(i));
    else {
      usable.push(i);
      const { width, height } = one.sides;
      sides.push({ shorter: Math.min(width, height), longer: Math.max(width, height) });
      highestLabel = Math.max(highestLabel, one.highest);
    }
  });
  const what = { labels: 'labelled pixel', depth: 'measured depth', height: 'height' }[source.kind];
  const notes: string[] = [];
  if (corrupt.length > 0) notes.push(`${source.path}: ${corrupt.length} left out, damaged: ${listed(corrupt)}`);
  if (empty.length > 0) notes.push(`${source.path}: ${empty.length} left out, without any ${what}: ${listed(empty)}`);
  if (source.unpaired > 0) notes.push(`${source.path}: ${source.unpaired} files have no partner and are left out`);
  if (usable.length === 0) {
    throw new DataError(
      `${source.path}: none of ${source.length} pictures can be used: ${corrupt.length} are damaged, ` +
        `${empty.length} have no ${what} (all ignored, zero, infinite or no data)`,
    );
  }
  const median = (of: (one: { shorter: number; longer: number }) => number): number =>
    sides.map(of).sort((a, b) => a - b)[sides.length >> 1];
  return {
    path: source.path,
    length: usable.length,
    medianSize: { shorter: median(({ shorter }) => shorter), longer: median(({ longer }) => longer) },
    highestLabel,
    notes,
    name: (index) => source.name(usable[index]),
    pair: async (index) => kept.get(usable[index]) ?? source.read(usable[index]),
  };
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

function highestOf(labels: Uint8Array): number {
  let highest = -1;
  for (const label of labels) if (label !== 255 && label > highest) highest = label;
  return highest;
}

/**
 * Two parts of one source, drawn from the seed: for sets that come without a test part.
 * @param share of the pairs that is held out for testing, in (0, 1)
 * @throws UsageError where a part would be empty
 */
export function holdOut(
  source: DenseSource,
  share: number,
  seed: number,
): { readonly train: DenseSource; readonly test: DenseSource } {
  const count = Math.round(source.length * share);
  if (!(count >= 1 && count < source.length)) {
    throw new UsageError(
      `--split ${share} of ${source.length} pictures leaves one part empty; give a share such as 0.25`,
    );
  }
  const order = new CounterRandom(seed, RandomPurpose.holdOut).permutation(source.length);
  const sorted = (indices: Uint32Array): number[] => Array.from(indices).sort((a, b) => a - b);
  return {
    train: selectPairs(source, sorted(order.subarray(count))),
    test: selectPairs(source, sorted(order.subarray(0, count))),
  };
}

/** Pictures that a typical value is taken from. */
const TYPICAL_PICTURES = 64;

/** A typical value in metres: the mean over some pictures of the mean of each. */
export async function typicalMetres(set: DenseSet): Promise<number> {
  const count = Math.min(set.length, TYPICAL_PICTURES);
  let total = 0;
  for (let i = 0; i < count; i++) {
    const measured = metresOf(await set.pair(Math.floor((i * set.length) / count))).values.filter(
      (value) => !Number.isNaN(value),
    );
    total += measured.reduce((sum, value) => sum + value, 0) / measured.length;
  }
  return total / count;
}

/** Labels of a pair. */
export function labelsOf({ target }: DensePair): TargetMap<Uint8Array> {
  return target as TargetMap<Uint8Array>;
}

/** Metres of a pair. */
export function metresOf({ target }: DensePair): TargetMap<Float32Array> {
  return target as TargetMap<Float32Array>;
}
