/** Tiles of rows: what is too large to exist for all rows at once is made, used and forgotten a tile at a time. */

import * as copyRows from '../../kernels/copy_rows.js';
import { PLACEMENT_ALIGNMENT_BYTES } from '../gpu/constants.js';
import type { Program } from '../gpu/program.js';
import { elementBytes, type Tensor } from '../gpu/tensor.js';

/** Consecutive rows: `rows` of them, the first of which is `from`. */
export interface RowTile {
  readonly from: number;
  readonly rows: number;
}

/** Most rows of `columns` float32 values that fit `bytes`: a multiple of four where four fit, and never none. */
export function tileRowsWithin(bytes: number, columns: number): number {
  const rows = Math.floor(bytes / (4 * columns));
  return rows < 4 ? Math.max(rows, 1) : rows - (rows % 4);
}

/** `rows` rows in tiles of `tileRows`, the last of which may have fewer. */
export function rowTiles(rows: number, tileRows: number): RowTile[] {
  return Array.from({ length: Math.ceil(rows / tileRows) }, (_, i) => ({
    from: i * tileRows,
    rows: Math.min(tileRows, rows - i * tileRows),
  }));
}

/** Whether the rows can be bound where they lie: tensors begin at multiples of 256 bytes. */
function bindable(x: Tensor, { from }: RowTile): boolean {
  return (x.baseOffsetBytes + from * x.columns * elementBytes(x.dtype)) % PLACEMENT_ALIGNMENT_BYTES === 0;
}

/** Rows of `x` as a tensor of their own: a view where they can be bound, else a copy. */
export function takeRows(program: Program, x: Tensor, tile: RowTile): Tensor {
  const { from, rows } = tile;
  if (from === 0 && rows === x.rows) return x;
  if (bindable(x, tile)) return x.slice(from * x.columns, [rows, x.columns]);
  const copy = program.intermediate(`rows_of_${x.name.split('.').pop()}`, [rows, x.columns], x.dtype);
  program.dispatch(copyRows.plan({ rows, columns: x.columns, from, to: 0, storage: x.storage }), [x, copy]);
  return copy;
}

/**
 * Writes rows of `into`.
 * @param write records what fills all of its argument, [tile.rows, columns]: a view of `into`, or a tensor that is copied
 */
export function putRows(program: Program, into: Tensor, tile: RowTile, write: (rows: Tensor) => void): void {
  const { from, rows } = tile;
  const { columns } = into;
  if (bindable(into, tile)) {
    write(from === 0 && rows === into.rows ? into : into.slice(from * columns, [rows, columns]));
    return;
  }
  const part = program.intermediate(`rows_of_${into.name.split('.').pop()}`, [rows, columns], into.dtype);
  write(part);
  program.dispatch(copyRows.plan({ rows, columns, from: 0, to: from, storage: into.storage }), [part, into]);
}
