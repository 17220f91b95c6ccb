/**
 * Teacher targets: what the student is asked to predict, from the teacher's logits, a tile of rows at a time. No gradient
 * flows through them.
 *
 * Sinkhorn-Knopp is done on logarithms. With E = exp(z / tau), every iterate of the reference is Q_ik = E_ik u_k v_i, and
 * the two normalisations are u_k = 1 / sum_i E_ik v_i and v_i = 1 / sum_k E_ik u_k; the factors K, B and the first global
 * sum cancel, since the last step makes every row sum to 1. Kept as log u and log v, each step is a log-sum-exp over
 * columns or rows, which neither overflows nor underflows at any temperature, and costs the same one exp per element. The
 * result is softmax((z - c) / tau) with c_k = -tau log u_k: the centering of the other recipe, with a center that is
 * solved for instead of averaged.
 *
 * So an iteration is one pass over the tiles that needs nothing but the center before it: log v of a tile's rows, then
 * their part of the sums over samples, which go on from tile to tile in order.
 */

import * as centerSum from '../../kernels/center_sum.js';
import * as centerUpdate from '../../kernels/center_update.js';
import * as sinkhornColumn from '../../kernels/sinkhorn_column.js';
import * as sinkhornColumnJoin from '../../kernels/sinkhorn_column_join.js';
import * as sinkhornRow from '../../kernels/sinkhorn_row.js';
import * as softmaxCenterKernel from '../../kernels/softmax_center.js';
import { splitWideRows } from '../../kernels/wide_rows.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { LogitTiles } from './prototype_logits.js';
import { putRows, type RowTile } from './row_tiles.js';

/** Momentum of the center in every published recipe. */
export const CENTER_MOMENTUM = 0.9;

/** Teacher rows that are treated together: the CLS rows of both views, or the masked patches. */
export interface TeacherRows {
  readonly logits: LogitTiles;
  /** f32 [1]: the teacher temperature of this step. */
  readonly temperature: Tensor;
  /** u32 [1]: how many rows hold something this step, the first ones. Without it, all do. */
  readonly count?: Tensor;
}

/** Targets [rows, columns] that are made a tile at a time. */
export interface TeacherTargets {
  readonly rows: number;
  /** Prototypes. */
  readonly columns: number;
  readonly tiles: readonly RowTile[];
  /**
   * Records what makes the targets of a tile, zeros for rows beyond the count. Each tile is asked for once, in order: the
   * last one may also update the teacher's state.
   * @param into [tile.rows, columns]; without it, an intermediate
   */
  at(tile: RowTile, into?: Tensor): Tensor;
}

/** The kernels' view of a tile. */
function sizeOf({ logits, count }: TeacherRows, { from, rows }: RowTile) {
  return { rows, before: from, columns: logits.columns, counted: count !== undefined };
}

/** How sums down the rows are divided: in as many parts for every tile, so that they go on from one to the next. */
function partsOf({ rows, columns, tiles }: LogitTiles) {
  const { parts } = splitWideRows(Math.min(rows, tiles[0].rows), columns);
  return { parts, rowsPerPart: (tile: RowTile) => 4 * Math.ceil(tile.rows / parts / 4) };
}

function assertCount(operator: string, { count }: TeacherRows): void {
  if (count && count.dtype !== 'u32') throw new GpuError(`${operator}: the count ${count.name} must be u32`);
}

/** Targets softmax((z - center) / temperature); `visit` sees the logits of each tile. */
function centeredTargets(
  program: Program,
  options: TeacherRows & { readonly center: Tensor },
  visit: (logits: Tensor, tile: RowTile) => void = () => {},
): TeacherTargets {
  const { logits, temperature, count, center } = options;
  const { rows, columns, tiles } = logits;
  return {
    rows,
    columns,
    tiles,
    at: (tile, into = program.intermediate('targets', [tile.rows, columns])) => {
      const z = logits.at(tile);
      const plan = softmaxCenterKernel.plan(sizeOf(options, tile));
      program.dispatch(plan, [z, temperature, count ?? temperature, center, into]);
      visit(z, tile);
      return into;
    },
  };
}

/**
 * The center [K] that Sinkhorn-Knopp solves for: its targets are those of `softmaxCenter` with it, for whoever makes them
 * elsewhere.
 * @throws GpuError when `iterations` is below 1
 */
export function sinkhornCenter(program: Program, options: TeacherRows & { readonly iterations?: number }): Tensor {
  const { logits, temperature, iterations = 3 } = options;
  assertCount('sinkhornKnopp', options);
  if (iterations < 1) throw new GpuError(`sinkhornKnopp: ${iterations} iterations; at least 1 is needed`);
  const { columns, tiles } = logits;
  const count = options.count ?? temperature;
  const { parts, rowsPerPart } = partsOf(logits);
  return program.scope('sinkhorn', () => {
    const center = program.intermediate('column_center', [columns]);
    const partial = program.intermediate('column_partial', [parts, columns, 2]);
    for (let i = 0; i < iterations; i++) {
      const first = i === 0;
      tiles.forEach((tile, t) => {
        const size = sizeOf(options, tile);
        const z = logits.at(tile);
        const shift = first ? temperature : program.intermediate('row_shift', [tile.rows]);
        if (!first) program.dispatch(sinkhornRow.plan(size), [z, temperature, count, center, shift]);
        const column = { ...size, parts, rowsPerPart: rowsPerPart(tile), first, continued: t > 0 };
        program.dispatch(sinkhornColumn.plan(column), [z, temperature, count, shift, partial]);
      });
      program.dispatch(sinkhornColumnJoin.plan({ columns, parts }), [partial, temperature, center]);
    }
    return center;
  });
}

/**
 * Sinkhorn-Knopp over the used rows (spec §2.3): every target row sums to 1, and prototypes are used about equally. The
 * iterations over all rows are recorded here; the targets, one more pass over the logits, as they are asked for.
 * @throws GpuError when `iterations` is below 1
 */
export function sinkhornKnopp(
  program: Program,
  options: TeacherRows & { readonly iterations?: number },
): TeacherTargets {
  return centeredTargets(program, { ...options, center: sinkhornCenter(program, options) });
}

/**
 * softmax((z - center) / temperature) of the used rows (spec §2.2). With `momentum`, center <- momentum center +
 * (1 - momentum) mean of the used rows' logits once the targets of the last tile are made: the center then holds the
 * teacher's outputs up to the step before, as in the reference, which updates at the next call. When no row is used there
 * is no mean (the reference would divide by zero): the center stays as it is.
 * @param options.center [K], state that persists between steps; starts at zero; must not share a GPU buffer with `count`,
 *   which the same kernel reads
 * @throws GpuError when the center does not fit
 */
export function softmaxCenter(
  program: Program,
  options: TeacherRows & { readonly center: Tensor; readonly momentum?: number },
): TeacherTargets {
  const { logits, center, momentum } = options;
  assertCount('softmaxCenter', options);
  const { columns } = logits;
  if (center.elements !== columns) {
    throw new GpuError(
      `softmaxCenter: center [${center.shape}] must hold one number for each of ${columns} prototypes`,
    );
  }
  if (momentum === undefined) return centeredTargets(program, options);
  return centeredTargets(program, options, centerMove(program, { ...options, momentum }));
}

/** Where a center is to move, and how slowly. */
interface CenterMove extends TeacherRows {
  readonly center: Tensor;
  readonly momentum: number;
}

/** Adds up the logits of the tiles as they come, and moves the center after the last one. */
function centerMove(program: Program, options: CenterMove): (logits: Tensor, tile: RowTile) => void {
  const { logits, center, momentum, count } = options;
  const { rows, columns, tiles } = logits;
  const { parts, rowsPerPart } = partsOf(logits);
  const partial = program.intermediate('center_partial', [parts, columns]);
  return (z, tile) => {
    const sum = { ...sizeOf(options, tile), parts, rowsPerPart: rowsPerPart(tile), continued: tile.from > 0 };
    program.dispatch(centerSum.plan(sum), [z, count ?? z, partial]);
    if (tile !== tiles[tiles.length - 1]) return;
    const plan = centerUpdate.plan({ rows, columns, counted: count !== undefined, parts, momentum });
    program.dispatch(plan, [partial, count ?? partial, center]);
  };
}

/** Moves the center as `softmaxCenter` does after its last tile, for whoever makes the targets elsewhere. */
export function moveCenter(program: Program, options: CenterMove): void {
  const visit = centerMove(program, options);
  for (const tile of options.logits.tiles) visit(options.logits.at(tile), tile);
}

/** The targets of all rows in one matrix [rows, columns], for few rows that are read more than once. */
export function wholeTargets(
  program: Program,
  targets: TeacherTargets,
  whole = program.intermediate('targets', [targets.rows, targets.columns]),
): Tensor {
  const { tiles } = targets;
  for (const tile of tiles) putRows(program, whole, tile, (into) => targets.at(tile, into));
  return whole;
}
