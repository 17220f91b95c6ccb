/** KoLeo: keeps the features of a batch apart from each other by the distance to the nearest neighbour (spec §2.6). */

import * as koleoKernel from '../../kernels/koleo.js';
import * as backwardKernel from '../../kernels/koleo_backward.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { l2Normalize } from './l2_normalize.js';

/** Where the reference adds its 1e-8: to the norm, to every component of a difference, and to the distance. */
export const KOLEO_EPSILON = 1e-8;

export interface KoleoOptions {
  /** First row of the first group. */
  readonly rowStart: number;
  /** Views; neighbours are sought within a view. Default 2. */
  readonly groups?: number;
  readonly rowsPerGroup: number;
  /** Default 1e-8. */
  readonly epsilon?: number;
  /** u32 [groups * rowsPerGroup], written: the neighbour of each row, counted within the groups' rows. */
  readonly neighbours?: Tensor;
}

/**
 * Sum over the groups of -mean_i log(d_i + eps), where d_i = |n_i - n_j + eps|, n the L2-normalised rows of the group and
 * j the row with the largest dot product with row i (the lowest index among equals). A group of one row is its own
 * neighbour, which gives a constant. The gradient reaches both n_i and n_j; rows outside the groups get none.
 * @param x [R, D]: the student's class tokens of the global crops, after the last norm
 * @returns [1], before the loss weight
 * @throws GpuError when the groups do not lie within x
 */
export function koleo(graph: Graph, x: Tensor, options: KoleoOptions): Tensor {
  const { program } = graph;
  const { rowStart, groups = 2, rowsPerGroup, epsilon = KOLEO_EPSILON } = options;
  const rows = groups * rowsPerGroup;
  // In float32 also of half features: near neighbours differ by less than a half resolves.
  const unit = l2Normalize(graph, x, epsilon, { rowStart, rows }, 'f32');
  const size = { groups, rowsPerGroup, columns: x.columns, epsilon };
  const neighbour = options.neighbours ?? program.intermediate('koleo_neighbour', [rows], 'u32');
  const distance = program.intermediate('koleo_distance', [rows]);
  const rowLoss = program.intermediate('koleo_rows', [rows]);
  program.dispatch(koleoKernel.plan(size), [unit, neighbour, distance, rowLoss]);
  const loss = program.intermediate('koleo', [1]);
  const range = program.constant('koleo_range', [2], Uint32Array.of(0, rows));
  program.dispatch(sumRanges.plan({ rows, terms: 1 }), [rowLoss, range, loss]);
  if (!graph.needsGradient(unit)) return loss;

  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    graph.contribute(unit, (into) => {
      program.dispatch(backwardKernel.plan(size), [unit, neighbour, distance, upstream, into]);
    });
  });
  return loss;
}
