/**
 * Logits of the prototypes, x Wᵀ. With 65,536 prototypes and some thousand rows they would fill gigabytes, so they exist a
 * tile of rows at a time and are computed again for every pass over them; only what fits one tile is kept.
 */

import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import { dispatchGemm, weightFor } from './linear.js';
import { type RowTile, rowTiles, takeRows, tileRowsWithin } from './row_tiles.js';

/** Bytes of one float32 tile of logits, unless something else is asked for. */
export const LOSS_TILE_BYTES = 64 * 2 ** 20;

/** Logits [rows, columns], float32, of which a tile exists at a time. */
export interface LogitTiles {
  readonly rows: number;
  /** Prototypes. */
  readonly columns: number;
  readonly tiles: readonly RowTile[];
  /** Records what makes the logits of one of the tiles. @returns [tile.rows, columns] */
  at(tile: RowTile): Tensor;
}

/** Rows of a tile of logits: what fits `tileBytes` and one binding of the adapter. */
export function logitTileRows(program: Program, columns: number, tileBytes = LOSS_TILE_BYTES): number {
  return tileRowsWithin(Math.min(tileBytes, program.gpu.capabilities.maxBindingSizeBytes), columns);
}

/** Records one tile of logits. @param x [R, d] @param weight [K, d] @returns float32 [tile.rows, K] */
export function logitsOfRows(program: Program, x: Tensor, weight: Tensor, tile: RowTile): Tensor {
  const logits = program.intermediate('logits', [tile.rows, weight.rows]);
  dispatchGemm(
    program,
    { layout: 'NT', M: tile.rows, N: weight.rows, K: x.columns },
    { a: takeRows(program, x, tile), b: weightFor(x, weight), out: logits },
  );
  return logits;
}

export interface PrototypeLogits {
  /** Unit rows [R, d]. */
  readonly features: Tensor;
  /** The normalised last layer [K, d]. */
  readonly weight: Tensor;
  /** Which of the rows; all without it. */
  readonly range?: RowTile;
  readonly tileBytes?: number;
}

/**
 * The logits of some rows, without gradient.
 * @throws GpuError when the widths differ or the range leaves the rows
 */
export function prototypeLogits(program: Program, options: PrototypeLogits): LogitTiles {
  const { features, weight, tileBytes } = options;
  const { from, rows } = options.range ?? { from: 0, rows: features.rows };
  if (features.columns !== weight.columns || rows < 1 || from < 0 || from + rows > features.rows) {
    throw new GpuError(
      `prototypeLogits: no rows ${from} to ${from + rows - 1} of ${features.name} [${features.shape}] for ` +
        `${weight.name} [${weight.shape}]`,
    );
  }
  const columns = weight.rows;
  const tiles = rowTiles(rows, logitTileRows(program, columns, tileBytes));
  let whole: Tensor | undefined;
  return {
    rows,
    columns,
    tiles,
    at: (tile) => {
      if (whole) return whole;
      const logits = logitsOfRows(program, features, weight, { from: from + tile.from, rows: tile.rows });
      if (tiles.length === 1) whole = logits;
      return logits;
    },
  };
}

/** Logits that are there already, [R, K]. */
export function givenLogits(program: Program, logits: Tensor, tileRows = logits.rows): LogitTiles {
  return {
    rows: logits.rows,
    columns: logits.columns,
    tiles: rowTiles(logits.rows, tileRows),
    at: (tile) => takeRows(program, logits, tile),
  };
}
