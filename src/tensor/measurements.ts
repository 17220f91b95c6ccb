/** Numbers for the log that show a collapse before the losses do. No gradients. */

import * as columnDeviation from '../../kernels/column_deviation.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import * as targetEntropy from '../../kernels/target_entropy.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { l2Normalize, type RowRange } from './l2_normalize.js';

/**
 * Mean entropy in nats of the target rows rowStart to rowStart + rows - 1, of which the first `count` are used (all,
 * without one): ln K when the teacher is uniform, 0 when each row names one prototype. 0 when no row is used.
 * @param targets [R, K] probabilities
 * @param count u32 [1]
 * @returns [1]
 * @throws GpuError when the rows do not lie within the targets
 */
export function teacherEntropy(graph: Graph, targets: Tensor, rowStart: number, rows: number, count?: Tensor): Tensor {
  const { program } = graph;
  if (rows < 1 || rowStart < 0 || rowStart + rows > targets.rows) {
    throw new GpuError(`teacherEntropy: targets [${targets.shape}] have no rows ${rowStart} to ${rowStart + rows - 1}`);
  }
  const entropy = program.intermediate('target_entropy', [rows]);
  const size = { rows, from: rowStart, columns: targets.columns, counted: count !== undefined };
  program.dispatch(targetEntropy.plan(size), [targets, count ?? targets, entropy]);
  return total(graph, entropy, 'teacher_entropy');
}

/**
 * Mean over dimensions of the standard deviation (divided by n, not n - 1) over rows of the L2-normalised rows:
 * about 1 / sqrt(D) when features spread over the sphere, 0 when all are the same.
 * @param x [R, D]
 * @returns [1]
 * @throws GpuError when the rows do not lie within x
 */
export function featureDeviation(graph: Graph, x: Tensor, rowStart: number, rows: number): Tensor {
  const { program } = graph;
  const range: RowRange = { rowStart, rows };
  const unit = graph.withoutGradient(() => l2Normalize(graph, x, 1e-12, range));
  const deviation = program.intermediate('column_deviation', [x.columns]);
  program.dispatch(columnDeviation.plan({ rows, columns: x.columns }), [unit, deviation]);
  return total(graph, deviation, 'feature_deviation');
}

function total({ program }: Graph, values: Tensor, name: string): Tensor {
  const sum = program.intermediate(name, [1]);
  const range = program.constant(`${name}_range`, [2], Uint32Array.of(0, values.elements));
  program.dispatch(sumRanges.plan({ rows: values.elements, terms: 1 }), [values, range, sum]);
  return sum;
}
