/** The tile of rows that the kernels over teacher logits work on (those that include lib/used_rows.wgsl). */

/** A tile of the rows of a set, of which the first few may hold something this step. */
export interface UsedRowsTile {
  /** Rows of the tile, and rows of the set before it. */
  readonly rows: number;
  readonly before: number;
  /** Prototypes. */
  readonly columns: number;
  /** Whether only the first count[0] rows of the set are used. */
  readonly counted: boolean;
}

/** How a sum down the rows of the tile is divided. */
export interface RowParts {
  readonly parts: number;
  readonly rowsPerPart: number;
}

/** Run-time values of the tile: one pipeline serves all tiles. */
export function tileParameters({ rows, before }: UsedRowsTile, rowsPerPart = rows): readonly number[] {
  return [rows, before, rowsPerPart];
}
