/**
 * Decoded pictures kept in memory, since decoding them again each epoch is waste. Pictures lie in shared memory, so
 * that worker threads read them in place. Nothing is ever evicted: with a new random order each epoch, keeping the
 * first pictures is as good as any other choice and costs nothing.
 */
import type { RgbImage } from './picture.js';

/** Memory is taken in slabs of this size: one allocation each for millions of thumbnails would be slow. */
const SLAB_BYTES = 16 << 20;

/** A larger picture is decoded anew each time; a few of them would fill the budget. */
const MAX_PICTURE_BYTES = 8 << 20;

export class PixelCache {
  readonly #pictures = new Map<number, RgbImage>();
  #left: number;
  #slab: Uint8Array = new Uint8Array(0);
  #used = 0;

  /** @param budgetBytes most memory to take; 0 keeps nothing */
  constructor(budgetBytes: number) {
    this.#left = budgetBytes;
  }

  get(index: number): RgbImage | undefined {
    return this.#pictures.get(index);
  }

  /** Copies the picture into shared memory and returns the copy; undefined if it does not fit. */
  keep(index: number, image: RgbImage): RgbImage | undefined {
    const there = this.#pictures.get(index);
    if (there) return there;
    const size = image.data.length;
    if (size > MAX_PICTURE_BYTES) return undefined;
    if (this.#used + size > this.#slab.length) {
      const slabBytes = Math.min(SLAB_BYTES, this.#left);
      if (size > slabBytes) return undefined;
      this.#slab = new Uint8Array(new SharedArrayBuffer(slabBytes));
      this.#left -= slabBytes;
      this.#used = 0;
    }
    const data = this.#slab.subarray(this.#used, this.#used + size);
    data.set(image.data);
    this.#used += size;
    const kept = { width: image.width, height: image.height, data };
    this.#pictures.set(index, kept);
    return kept;
  }
}
