/** Numbers for the log that show a collapse before the losses do. No gradients. */

import * as columnDeviation from '../../kernels/column_deviation.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import * as targetEntropy from '../../kernels/target_entropy.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { l2Normalize, type RowRange } from './l2_normalize.js';

/**
 * Mean entropy in nats of target rows: ln K when the teacher is uniform, 0 when each row names one prototype.
 * @param targets [R, K] probabilities
 * @returns [1]
 */
export function teacherEntropy(graph: Graph, targets: Tensor): Tensor {
  const { program } = graph;
  const { rows, columns } = targets;
  const entropy = program.intermediate('target_entropy', [rows]);
  program.dispatch(targetEntropy.plan({ rows, columns }), [targets, entropy]);
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
  const size = { rows, columns: x.columns, storage: unit.storage };
  program.dispatch(columnDeviation.plan(size, program.gpu.capabilities), [unit, deviation]);
  return total(graph, deviation, 'feature_deviation');
}

function total({ program }: Graph, values: Tensor, name: string): Tensor {
  const sum = program.intermediate(name, [1]);
  const range = program.constant(`${name}_range`, [2], Uint32Array.of(0, values.elements));
  program.dispatch(sumRanges.plan({ rows: values.elements, terms: 1 }), [values, range, sum]);
  return sum;
}
