/**
 * Teacher targets: what the student is asked to predict, from the teacher's logits. No gradient flows through them.
 *
 * Sinkhorn-Knopp is done on logarithms. With E = exp(z / tau), every iterate of the reference is Q_ik = E_ik u_k v_i, and
 * the two normalisations are u_k = 1 / sum_i E_ik v_i and v_i = 1 / sum_k E_ik u_k; the factors K, B and the first global
 * sum cancel, since the last step makes every row sum to 1. Kept as log u and log v, each step is a log-sum-exp over
 * columns or rows, which neither overflows nor underflows at any temperature, and costs the same one exp per element. The
 * result is softmax((z - c) / tau) with c_k = -tau log u_k: the centering of the other recipe, with a center that is
 * solved for instead of averaged.
 */

import * as centerSum from '../../kernels/center_sum.js';
import * as centerUpdate from '../../kernels/center_update.js';
import * as sinkhornColumn from '../../kernels/sinkhorn_column.js';
import * as sinkhornColumnJoin from '../../kernels/sinkhorn_column_join.js';
import * as sinkhornRow from '../../kernels/sinkhorn_row.js';
import * as softmaxCenterKernel from '../../kernels/softmax_center.js';
import { splitWideRows } from '../../kernels/wide_rows.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/** Momentum of the center in every published recipe. */
export const CENTER_MOMENTUM = 0.9;

/** Teacher rows that are treated together: the CLS rows of both views, or the masked patches. */
export interface TeacherRows {
  /** Teacher logits [R, K]. */
  readonly logits: Tensor;
  /** First row. */
  readonly rowStart: number;
  /** Most rows there can be. */
  readonly rows: number;
  /** u32 [1]: how many of them hold something this step. Without it, all do. */
  readonly count?: Tensor;
}

export interface TeacherTargets extends TeacherRows {
  /** f32 [1]: the teacher temperature of this step. */
  readonly temperature: Tensor;
  /** [R, K]: rows rowStart to rowStart + rows - 1 are written, those beyond the count with zeros. */
  readonly into: Tensor;
}

/** What the kernels need to know of the rows. Throws GpuError when they do not fit. */
function rowsOf(operator: string, { logits, rowStart, rows, count }: TeacherRows, into?: Tensor) {
  if (rows < 1 || rowStart < 0 || rowStart + rows > logits.rows) {
    throw new GpuError(`${operator}: logits [${logits.shape}] have no rows ${rowStart} to ${rowStart + rows - 1}`);
  }
  if (into && (into.columns !== logits.columns || rowStart + rows > into.rows)) {
    const range = `rows ${rowStart} to ${rowStart + rows - 1} of logits [${logits.shape}]`;
    throw new GpuError(`${operator}: targets [${into.shape}] have no place for ${range}`);
  }
  if (count && count.dtype !== 'u32') throw new GpuError(`${operator}: the count ${count.name} must be u32`);
  return { rows, from: rowStart, columns: logits.columns, counted: count !== undefined };
}

/**
 * Sinkhorn-Knopp over the used rows (spec §2.3): every target row sums to 1, and prototypes are used about equally.
 * @throws GpuError when the rows do not fit or `iterations` is below 1
 */
export function sinkhornKnopp(graph: Graph, options: TeacherTargets & { readonly iterations?: number }): void {
  const { program } = graph;
  const { logits, temperature, into, iterations = 3 } = options;
  const size = rowsOf('sinkhornKnopp', options, into);
  if (iterations < 1) throw new GpuError(`sinkhornKnopp: ${iterations} iterations; at least 1 is needed`);
  const { rows, columns } = size;
  const count = options.count ?? logits;
  const split = splitWideRows(rows, columns);
  program.scope('sinkhorn', () => {
    const partial = program.intermediate('column_partial', [split.parts, columns, 2]);
    const center = program.intermediate('column_center', [columns]);
    const rowShift = program.intermediate('row_shift', [rows]);
    for (let i = 0; i < iterations; i++) {
      const first = i === 0;
      const shift = first ? logits : rowShift;
      program.dispatch(sinkhornColumn.plan({ ...size, ...split, first }), [logits, temperature, count, shift, partial]);
      const join = sinkhornColumnJoin.plan({ columns, parts: split.parts });
      program.dispatch(join, [partial, temperature, center]);
      const last = i === iterations - 1;
      const overPrototypes = last ? softmaxCenterKernel.plan(size) : sinkhornRow.plan(size);
      program.dispatch(overPrototypes, [logits, temperature, count, center, last ? into : rowShift]);
    }
  });
}

/**
 * softmax((z - center) / temperature) of the used rows (spec §2.2). Record `updateCenter` after it in the same step: the
 * center then holds the teacher's outputs up to the step before, as in the reference, which updates at the next call.
 * @param options.center [K], state that persists between steps; starts at zero
 * @throws GpuError when the rows or the center do not fit
 */
export function softmaxCenter(graph: Graph, options: TeacherTargets & { readonly center: Tensor }): void {
  const { logits, temperature, center, into } = options;
  const size = rowsOf('softmaxCenter', options, into);
  assertCenter('softmaxCenter', center, logits);
  const tensors = [logits, temperature, options.count ?? logits, center, into];
  graph.program.dispatch(softmaxCenterKernel.plan(size), tensors);
}

/**
 * center <- momentum center + (1 - momentum) mean of the used rows' logits (spec §2.2). When no row is used there is no
 * mean (the reference would divide by zero): the center stays as it is.
 * @param options.center [K]; must not share a GPU buffer with `count`, which the same kernel reads
 * @throws GpuError when the rows or the center do not fit
 */
export function updateCenter(
  graph: Graph,
  options: TeacherRows & { readonly center: Tensor; readonly momentum?: number },
): void {
  const { program } = graph;
  const { logits, center, momentum = CENTER_MOMENTUM } = options;
  const size = rowsOf('updateCenter', options);
  assertCenter('updateCenter', center, logits);
  const { rows, columns, counted } = size;
  const split = splitWideRows(rows, columns);
  const partial = program.intermediate('center_partial', [split.parts, columns]);
  program.dispatch(centerSum.plan({ ...size, ...split }), [logits, options.count ?? logits, partial]);
  const plan = centerUpdate.plan({ rows, columns, counted, parts: split.parts, momentum });
  program.dispatch(plan, [partial, options.count ?? partial, center]);
}

function assertCenter(operator: string, center: Tensor, logits: Tensor): void {
  if (center.elements === logits.columns) return;
  throw new GpuError(`${operator}: center [${center.shape}] must hold one number per prototype of [${logits.shape}]`);
}
