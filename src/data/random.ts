/**
 * Counter-based random numbers for data loading: Philox-4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy
 * as 1, 2, 3"). A generator is named by (seed, stream…), for example (seed, purpose, step, slot), so a number depends on
 * where it is used and never on what was drawn before it elsewhere, on timing, or on how many workers there are.
 */

/** First element of a stream: keeps decisions of different kinds apart when their other coordinates are equal. */
export const RandomPurpose = {
  order: 1,
  crops: 2,
  replacement: 3,
  masks: 4,
  bootstrap: 5,
  denseOrder: 20,
  denseViews: 21,
  holdOut: 22,
  fit: 23,
} as const;

const TWO_32 = 4294967296;

/** Upper 32 bits of the 64-bit product of two unsigned 32-bit integers, in 16-bit pieces that a double holds exactly. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (middle & 0xffff) + aLow * bHigh;
  return aHigh * bHigh + (middle >>> 16) + (carry >>> 16);
}

/**
 * Philox-4x32 with ten rounds: encrypts the counter words `c0…c3` under the key `k0, k1` into `out` (four uint32).
 * Exported for the known-answer test.
 */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** A stream of random numbers named by non-negative integers. Two generators with the same name give the same numbers. */
export class CounterRandom {
  readonly #key0: number;
  readonly #key1: number;
  readonly #block = new Uint32Array(4);
  #used = 4;
  #counter = 0;

  /**
   * @param seed integer in [0, 2^53)
   * @param stream integers in [0, 2^53); their order and number matter
   * @throws RangeError for anything else
   */
  constructor(seed: number, ...stream: number[]) {
    for (const value of [seed, ...stream]) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new RangeError(`a random stream is named by non-negative integers, not ${value}`);
      }
    }
    let key0 = seed >>> 0;
    let key1 = Math.floor(seed / TWO_32);
    // Each name is encrypted under the key so far. The third counter word is never 0 here and always 0 for draws, so
    // no draw of a parent stream can equal the key of a child.
    for (let i = 0; i < stream.length; i++) {
      philox4x32(stream[i] >>> 0, Math.floor(stream[i] / TWO_32), i + 1, 0, key0, key1, this.#block);
      key0 = this.#block[0];
      key1 = this.#block[1];
    }
    this.#key0 = key0;
    this.#key1 = key1;
  }

  /** Uniform over the integers [0, 2^32). */
  uint32(): number {
    if (this.#used === 4) {
      philox4x32(this.#counter >>> 0, Math.floor(this.#counter / TWO_32), 0, 0, this.#key0, this.#key1, this.#block);
      this.#counter++;
      this.#used = 0;
    }
    return this.#block[this.#used++];
  }

  /** Uniform over [lo, hi) in steps of (hi − lo)/2^32; spans [hi, lo] when hi < lo, like Python's `random.uniform`. */
  uniform(lo = 0, hi = 1): number {
    return lo + (hi - lo) * (this.uint32() / TWO_32);
  }

  /**
   * Uniform over the integers lo…hi, both included, without bias.
   * @throws RangeError if the range is empty or holds more than 2^32 integers
   */
  integer(lo: number, hi: number): number {
    const range = hi - lo + 1;
    if (!(range >= 1 && range <= TWO_32)) throw new RangeError(`no integer can be drawn from ${lo} to ${hi}`);
    const limit = TWO_32 - (TWO_32 % range);
    let draw = this.uint32();
    while (draw >= limit) draw = this.uint32();
    return lo + (draw % range);
  }

  /** Standard normal, by Marsaglia's polar method (no sine or cosine, whose last bit differs between engines). */
  normal(): number {
    for (;;) {
      const u = this.uniform(-1, 1);
      const v = this.uniform(-1, 1);
      const square = u * u + v * v;
      if (square > 0 && square < 1) return u * Math.sqrt((-2 * Math.log(square)) / square);
    }
  }

  /** A uniformly random order of 0…n−1 (Fisher–Yates). */
  permutation(n: number): Uint32Array {
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      const j = this.integer(0, i);
      order[i] = order[j];
      order[j] = i;
    }
    return order;
  }
}
