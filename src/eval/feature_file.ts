/**
 * Features on disk: rows of halves in one flat file, written once and read in any order, so that the features of a large
 * set need not fit the heap. Reads go by position through the system's page cache: what memory is free holds the file as
 * a mapping would, and nothing of it counts as the process's own.
 */

import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { UsageError, WebdinoError } from '../errors.js';
import { fromHalf, halfBits } from '../gpu/half.js';

const HALF_BYTES = 2;

/** The largest finite half. */
const HALF_MAX = 65504;

/** Converted and written at a time. */
const BLOCK_VALUES = 1 << 20;

export class FeatureFile {
  private written = 0;
  private open = true;

  private constructor(
    readonly path: string,
    readonly columns: number,
    private readonly descriptor: number,
  ) {}

  /**
   * @param path of the file, which must not exist yet
   * @param columns values of a row
   * @throws UsageError for no columns; the system's error where the file cannot be made
   */
  static create(path: string, columns: number): FeatureFile {
    if (!Number.isInteger(columns) || columns < 1) throw new UsageError(`rows of ${columns} features: give 1 or more`);
    return new FeatureFile(path, columns, openSync(path, 'wx+'));
  }

  /** Rows written so far. */
  get rows(): number {
    return this.written;
  }

  /**
   * @param rows [n, columns]
   * @throws WebdinoError for a value that is not finite; one beyond the halves' range is kept at its end
   */
  append(rows: Float32Array): void {
    const { columns } = this;
    if (!Number.isInteger(rows.length / columns)) {
      throw new UsageError(`${rows.length} values are no whole rows of ${columns}`);
    }
    for (let from = 0; from < rows.length; from += BLOCK_VALUES) {
      const halves = Uint16Array.from(rows.subarray(from, from + BLOCK_VALUES), (value, i) => {
        if (!Number.isFinite(value)) {
          const row = this.written + Math.floor((from + i) / columns);
          throw new WebdinoError(`feature row ${row} is not finite: the model has diverged or its file is damaged`);
        }
        return halfBits(Math.min(Math.max(value, -HALF_MAX), HALF_MAX));
      });
      this.transfer('write', halves, this.written * columns + from);
    }
    this.written += rows.length / columns;
  }

  /** Rows `first` … `first + count - 1`: [count, columns]. */
  readRange(first: number, count: number): Float32Array {
    const halves = new Uint16Array(count * this.columns);
    this.readInto(halves, first, count);
    return fromHalf(halves);
  }

  /** Rows in the order of `indices`: [indices.length, columns]. */
  readRows(indices: ArrayLike<number>): Float32Array {
    const { columns } = this;
    const halves = new Uint16Array(indices.length * columns);
    for (let i = 0; i < indices.length; i++) {
      this.readInto(halves.subarray(i * columns, (i + 1) * columns), indices[i], 1);
    }
    return fromHalf(halves);
  }

  /** Closes and removes the file; what was read stays the caller's. */
  close(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.descriptor);
    rmSync(this.path, { force: true });
  }

  private readInto(halves: Uint16Array, first: number, count: number): void {
    if (!Number.isInteger(first) || first < 0 || first + count > this.written) {
      throw new UsageError(`rows ${first} to ${first + count - 1} of ${this.written} features`);
    }
    this.transfer('read', halves, first * this.columns);
  }

  /** All bytes: the system may take or give fewer than asked at a time. */
  private transfer(direction: 'read' | 'write', halves: Uint16Array, firstValue: number): void {
    const bytes = new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);
    for (let done = 0; done < bytes.length; ) {
      const [left, position] = [bytes.length - done, firstValue * HALF_BYTES + done];
      const moved =
        direction === 'read'
          ? readSync(this.descriptor, bytes, done, left, position)
          : writeSync(this.descriptor, bytes, done, left, position);
      if (moved === 0) throw new WebdinoError(`${this.path} ends early: it was changed while it was in use`);
      done += moved;
    }
  }
}
