/**
 * Exact nearest neighbours by cosine similarity, for sets of any size.
 *
 * Similarities are one gemm a block of queries and database rows. Database rows are streamed: while the GPU works on one
 * block, the next is read, normalised and queued. Each tile of similarities is merged into every query's best rows and
 * forgotten, on the GPU (top_k_tile.wgsl), so that only [queries, k] comes back; or, where the GPU is the CPU or k is large,
 * by a heap on the CPU, which looks at each similarity once and mostly rejects it in one comparison. Both give the same rows.
 */

import * as topKTile from '../../kernels/top_k_tile.js';
import { UsageError, WebdinoError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import { Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import { linear } from '../tensor/linear.js';

/** Smallest norm that a feature is divided by (spec §6.2). */
const EPSILON = 1e-12;

/** Most rows of a block: tiles of similarities are 32 MiB on a GPU; 8 MiB where they are read back. */
const QUERY_ROWS = { gpu: 1024, cpu: 256 };
const DATABASE_ROWS = 8192;
/** Fewest: smaller blocks save nothing, and powers of two between these limits share compiled kernels among sets. */
const FEWEST_ROWS = 64;

/** Queries and their lists that lie on the GPU at once; of more, the database is read once for each such part. */
const QUERY_BYTES = 2 ** 30;

/** Blocks of the database that may be queued: one on the GPU, one waiting. */
const BLOCKS_IN_FLIGHT = 2;

/** Rows of features that are read by ranges; a `FeatureFile` is one. */
export interface RowReader {
  readonly rows: number;
  /** Values of a row. */
  readonly columns: number;
  /** Rows `first` … `first + count - 1`: [count, columns]. */
  readRange(first: number, count: number): Float32Array | Promise<Float32Array>;
}

/** Rows that lie in memory. @throws UsageError where the values are no whole rows */
export function rowsOf(features: Float32Array, columns: number): RowReader {
  const rows = features.length / columns;
  if (!Number.isInteger(rows)) throw new UsageError(`${features.length} values are no whole rows of ${columns}`);
  return {
    rows,
    columns,
    readRange: (first, count) => features.subarray(first * columns, (first + count) * columns),
  };
}

export interface Neighbours {
  /** Per query. */
  readonly k: number;
  /** u32 [queries, k]: rows of the database, nearest first; equal similarities in the order of the rows. */
  readonly indices: Uint32Array;
  /** [queries, k]: cosines. */
  readonly similarities: Float32Array;
}

export interface NearestOptions {
  /** Where the nearest are selected. Default: as `selectsOnGpu` says. */
  readonly selection?: 'gpu' | 'cpu';
  /** Called with the database rows that are done. */
  readonly onProgress?: (rows: number) => void;
}

/**
 * The `k` database rows of largest cosine similarity for every query. Rows need not be normalised.
 * @param k capped at the database's rows
 * @throws WebdinoError for features that are not finite; UsageError for no rows, or rows of different widths
 */
export async function nearestRows(
  gpu: Gpu,
  queries: RowReader,
  database: RowReader,
  k: number,
  { selection, onProgress }: NearestOptions = {},
): Promise<Neighbours> {
  checkRows(queries, database);
  if (!Number.isInteger(k) || k < 1) throw new UsageError(`${k} nearest rows: give a whole number from 1`);
  const kept = Math.min(k, database.rows);
  const onGpu = (selection ?? (topKTile.selectsOnGpu(kept, gpu.capabilities) ? 'gpu' : 'cpu')) === 'gpu';
  if (!onGpu) {
    const nearest = new NearestRows(queries.rows, kept);
    await similarityTiles(gpu, queries, database, (tile) => nearest.offerTile(tile), onProgress);
    return nearest.sorted();
  }
  const indices = new Uint32Array(queries.rows * kept);
  const similarities = new Float32Array(queries.rows * kept);
  const part = Math.max(1, Math.floor(QUERY_BYTES / (4 * (alignUp(queries.columns, 4) + 2 * kept))));
  for (let first = 0; first < queries.rows; first += part) {
    const count = Math.min(part, queries.rows - first);
    const found = await selectOnGpu(gpu, queries, { first, count }, database, kept, onProgress);
    indices.set(found.indices, first * kept);
    similarities.set(found.similarities, first * kept);
  }
  return { k: kept, indices, similarities };
}

/**
 * Every query's similarities to all rows, for rankings that need them all.
 * @param visit called once for each query, in order, with the cosines to all database rows; the array is reused
 * @throws as `nearestRows`
 */
export async function similarityLines(
  gpu: Gpu,
  queries: RowReader,
  database: RowReader,
  visit: (query: number, line: Float32Array) => void,
): Promise<void> {
  checkRows(queries, database);
  // As many queries at a time as a quarter of a gibibyte of lines holds.
  const step = Math.min(queries.rows, Math.max(1, Math.floor(2 ** 26 / database.rows)));
  const lines = new Float32Array(step * database.rows);
  for (let from = 0; from < queries.rows; from += step) {
    const count = Math.min(step, queries.rows - from);
    const some: RowReader = {
      rows: count,
      columns: queries.columns,
      readRange: (first, n) => queries.readRange(from + first, n),
    };
    await similarityTiles(gpu, some, database, ({ query, queries: n, row, rows, pitch, values }) => {
      for (let q = 0; q < n; q++) {
        lines.set(values.subarray(q * pitch, q * pitch + rows), (query + q) * database.rows + row);
      }
    });
    for (let q = 0; q < count; q++) visit(from + q, lines.subarray(q * database.rows, (q + 1) * database.rows));
  }
}

function checkRows(queries: RowReader, database: RowReader): void {
  const [m, n] = [queries.rows, database.rows];
  if (queries.columns !== database.columns) {
    throw new UsageError(`queries of ${queries.columns} features and database rows of ${database.columns}`);
  }
  if (!(m >= 1) || !(n >= 1))
    throw new UsageError(`a search over ${n} rows for ${m} queries: give one of each at least`);
}

/** Rows of a block: the power of two that holds all `rows`, within the limits above and what the adapter binds. */
function blockRows(gpu: Gpu, rows: number, most: number, columns: number): number {
  const bindable = Math.floor(gpu.capabilities.maxBindingSizeBytes / (4 * columns));
  return Math.min(Math.max(FEWEST_ROWS, 2 ** Math.ceil(Math.log2(rows))), most, bindable);
}

/** A block of rows from `first`, each divided by its norm; zero past `count` rows and past their width. */
async function normalisedRows(
  reader: RowReader,
  first: number,
  count: number,
  [rows, columns]: readonly [number, number],
): Promise<Float32Array> {
  const dim = reader.columns;
  const features = await reader.readRange(first, count);
  const block = new Float32Array(rows * columns);
  for (let r = 0; r < count; r++) {
    const from = r * dim;
    let squares = 0;
    for (let c = 0; c < dim; c++) squares += features[from + c] ** 2;
    if (!Number.isFinite(squares)) {
      throw new WebdinoError(`feature row ${first + r} is not finite: the model has diverged or its file is damaged`);
    }
    const scale = 1 / Math.max(Math.sqrt(squares), EPSILON);
    for (let c = 0; c < dim; c++) block[r * columns + c] = features[from + c] * scale;
  }
  return block;
}

// --- Selection on the GPU --------------------------------------------------------------------------------------------

async function selectOnGpu(
  gpu: Gpu,
  queries: RowReader,
  { first, count }: { readonly first: number; readonly count: number },
  database: RowReader,
  k: number,
  onProgress?: (rows: number) => void,
): Promise<Neighbours> {
  const columns = alignUp(queries.columns, 4);
  const tileRows = blockRows(gpu, database.rows, DATABASE_ROWS, columns);
  const queryRows = blockRows(gpu, count, QUERY_ROWS.gpu, columns);
  const program = new Program(gpu, 'nearest rows');
  const buffers: GPUBuffer[] = [];
  const persistent = (name: string, shape: readonly number[], dtype: 'f32' | 'u32'): Tensor => {
    const tensor = new Tensor(name, shape, dtype, 'persistent');
    const buffer = gpu.storageBuffer(tensor.sizeBytes, name);
    buffers.push(buffer);
    tensor.placement = { buffer, offsetBytes: 0 };
    return tensor;
  };
  try {
    const block = program.input('database rows', [tileRows, columns]);
    const tile = program.input('tile', [2], 'u32');
    const graph = new Graph(program);
    const lists: { readonly values: Tensor; readonly rows: Tensor; readonly count: number }[] = [];
    for (let from = 0; from < count; from += queryRows) {
      const some = Math.min(queryRows, count - from);
      const rows = await normalisedRows(queries, first + from, some, [queryRows, columns]);
      const tensor = persistent('queries', [queryRows, columns], 'f32');
      gpu.device.queue.writeBuffer(tensor.place().buffer, 0, rows.buffer as ArrayBuffer);
      const values = persistent('nearest values', [queryRows, k], 'f32');
      const indices = persistent('nearest rows', [queryRows, k], 'u32');
      const similarities = linear(graph, tensor, block);
      program.dispatch(topKTile.plan({ queries: some, columns: tileRows, k }), [similarities, tile, values, indices]);
      lists.push({ values, rows: indices, count: some });
    }
    await program.compile();

    const underWay: Promise<undefined>[] = [];
    for (let row = 0; row < database.rows; row += tileRows) {
      const rows = Math.min(tileRows, database.rows - row);
      program.write(block, await normalisedRows(database, row, rows, [tileRows, columns]));
      program.write(tile, Uint32Array.of(row, rows));
      program.run();
      underWay.push(gpu.device.queue.onSubmittedWorkDone());
      // What is queued holds a copy of its block until it has run.
      if (underWay.length >= BLOCKS_IN_FLIGHT) await underWay.shift();
      onProgress?.(row + rows);
    }
    const indices = new Uint32Array(count * k);
    const similarities = new Float32Array(count * k);
    let at = 0;
    for (const list of lists) {
      const [values, rows] = await program.readAll([list.values, list.rows]);
      similarities.set(values.subarray(0, list.count * k), at);
      indices.set(rows.subarray(0, list.count * k), at);
      at += list.count * k;
    }
    return { k, indices, similarities };
  } finally {
    program.dispose();
    for (const buffer of buffers) gpu.destroyBuffer(buffer);
  }
}

// --- Selection on the CPU --------------------------------------------------------------------------------------------

/** Similarities of some queries to some database rows. */
interface Tile {
  /** The first query, and how many. */
  readonly query: number;
  readonly queries: number;
  /** The first database row, and how many. */
  readonly row: number;
  readonly rows: number;
  /** Values from one query's line to the next. */
  readonly pitch: number;
  readonly values: Float32Array;
}

/** Computes every tile and hands it over, database rows outermost, each tile while the GPU makes the next. */
async function similarityTiles(
  gpu: Gpu,
  queries: RowReader,
  database: RowReader,
  take: (tile: Tile) => void,
  onProgress?: (rows: number) => void,
): Promise<void> {
  const [m, n] = [queries.rows, database.rows];
  const columns = alignUp(queries.columns, 4);
  const queryRows = blockRows(gpu, m, QUERY_ROWS.cpu, columns);
  const tileRows = blockRows(gpu, n, DATABASE_ROWS, columns);
  const program = new Program(gpu, 'similarities');
  try {
    const queryBlock = program.input('queries', [queryRows, columns]);
    const databaseBlock = program.input('database rows', [tileRows, columns]);
    const similarities = program.keep(linear(new Graph(program), queryBlock, databaseBlock));
    await program.compile();

    let waiting: { read: Promise<Float32Array>; tile: Omit<Tile, 'values'> } | undefined;
    const takeWaiting = async (): Promise<void> => {
      if (waiting) take({ ...waiting.tile, values: await waiting.read });
    };
    for (let row = 0; row < n; row += tileRows) {
      const rows = Math.min(tileRows, n - row);
      program.write(databaseBlock, await normalisedRows(database, row, rows, [tileRows, columns]));
      for (let query = 0; query < m; query += queryRows) {
        const some = Math.min(queryRows, m - query);
        program.write(queryBlock, await normalisedRows(queries, query, some, [queryRows, columns]));
        program.run();
        const read = program.readAll([similarities]).then(([values]) => values as Float32Array);
        // Awaited one tile later; until then a failure must not count as unhandled.
        read.catch(() => {});
        await takeWaiting();
        waiting = { read, tile: { query, queries: some, row, rows, pitch: tileRows } };
      }
      onProgress?.(row + rows);
    }
    await takeWaiting();
  } finally {
    program.dispose();
  }
}

/** The order of neighbours, last first: smaller values, and of equal ones the higher row. */
function isWorse(value: number, row: number, otherValue: number, otherRow: number): boolean {
  return value < otherValue || (value === otherValue && row > otherRow);
}

/** The best rows of every query so far: a heap each, its worst row on top. Equal values rank by the lower row. */
class NearestRows {
  private readonly values: Float32Array;
  private readonly rows: Uint32Array;
  private readonly counts: Uint32Array;

  constructor(
    private readonly queries: number,
    private readonly k: number,
  ) {
    this.values = new Float32Array(queries * k);
    this.rows = new Uint32Array(queries * k);
    this.counts = new Uint32Array(queries);
  }

  /** Tiles must come in the order of their rows. */
  offerTile({ query, queries, row, rows, pitch, values }: Tile): void {
    for (let q = 0; q < queries; q++) this.offer(query + q, values.subarray(q * pitch, q * pitch + rows), row);
  }

  /** Offers the values of rows `firstRow`, `firstRow + 1`, …, which must follow those offered before. */
  private offer(query: number, line: Float32Array, firstRow: number): void {
    const { k, values } = this;
    const base = query * k;
    let i = 0;
    for (; i < line.length && this.counts[query] < k; i++) {
      this.rise(base, this.counts[query]++, line[i], firstRow + i);
    }
    for (; i < line.length; i++) {
      // An equal value comes later, so it ranks behind what is kept.
      if (line[i] > values[base]) this.sink(base, line[i], firstRow + i);
    }
  }

  /** Puts a row at place `at`, the heap's new last, and moves what is better above it down. */
  private rise(base: number, at: number, value: number, row: number): void {
    const { values, rows } = this;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isWorse(value, row, values[base + parent], rows[base + parent])) break;
      values[base + at] = values[base + parent];
      rows[base + at] = rows[base + parent];
      at = parent;
    }
    values[base + at] = value;
    rows[base + at] = row;
  }

  /** Puts a row in place of the worst, and moves what is worse below it up. */
  private sink(base: number, value: number, row: number): void {
    const { values, rows, k } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      const other = base + child + 1;
      if (child + 1 < k && isWorse(values[other], rows[other], values[other - 1], rows[other - 1])) child++;
      const next = base + child;
      if (!isWorse(values[next], rows[next], value, row)) break;
      values[base + at] = values[next];
      rows[base + at] = rows[next];
      at = child;
    }
    values[base + at] = value;
    rows[base + at] = row;
  }

  sorted(): Neighbours {
    const { k, queries } = this;
    const indices = new Uint32Array(queries * k);
    const similarities = new Float32Array(queries * k);
    for (let q = 0; q < queries; q++) {
      const order = Array.from({ length: k }, (_, i) => q * k + i).sort(
        (a, b) => this.values[b] - this.values[a] || this.rows[a] - this.rows[b],
      );
      order.forEach((from, to) => {
        indices[q * k + to] = this.rows[from];
        similarities[q * k + to] = this.values[from];
      });
    }
    return { k, indices, similarities };
  }
}
