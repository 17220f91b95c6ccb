/** Cases in both storages of activations: how each is called, random numbers that it holds exactly, how near results come. */

import { fromHalf, toHalf } from '../src/gpu/half.js';
import type { Storage } from '../src/gpu/tensor.js';
import { noise } from '../test/fixture.js';
import { FORWARD_BOUND, HALF_BOUND } from './comparison.js';

export interface Stored {
  readonly storage: Storage;
  /** Behind the operator's name. */
  readonly mark: string;
  /** For results in this storage. */
  readonly bound: number;
}

export const STORAGES: readonly Stored[] = [
  { storage: 'f32', mark: '', bound: FORWARD_BOUND },
  { storage: 'f16', mark: ' (f16)', bound: HALF_BOUND },
];

/** Random numbers in [-1, 1) as the storage holds them. */
export function storedNoise(count: number, seed: number, storage: Storage): Float32Array {
  const values = noise(count, seed);
  return storage === 'f16' ? fromHalf(toHalf(values)).slice(0, count) : values;
}
