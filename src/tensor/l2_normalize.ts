/** L2 normalisation of rows with its gradient: the head's bottleneck, KoLeo, measurements of features (spec §2.1, §2.6). */

import * as l2NormalizeKernel from '../../kernels/l2_normalize.js';
import * as backwardKernel from '../../kernels/l2_normalize_backward.js';
import { GpuError } from '../errors.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/** Consecutive rows of a matrix. */
export interface RowRange {
  readonly rowStart: number;
  readonly rows: number;
}

/**
 * x / max(|x|, epsilon), row by row. The gradient of a row whose norm is below epsilon is that of x / epsilon.
 * @param x [R, D]
 * @param range where given, only these rows are read; the others get no gradient through this operator
 * @param result how the result and its gradient are stored: like x by default
 * @returns [R or range.rows, D]
 * @throws GpuError when the range leaves x
 */
export function l2Normalize(
  graph: Graph,
  x: Tensor,
  epsilon = 1e-12,
  range?: RowRange,
  result: Storage = x.storage,
): Tensor {
  const { program } = graph;
  const columns = x.columns;
  const { rowStart: from, rows } = range ?? { rowStart: 0, rows: x.rows };
  if (rows < 1 || from < 0 || from + rows > x.rows) {
    throw new GpuError(`${x.name} [${x.shape}] has no rows ${from} to ${from + rows - 1} to normalise`);
  }
  const size = { rows, columns, from, epsilon, storage: x.storage, result };
  const y = program.intermediate('l2_normalize', [rows, columns], result);
  const norms = program.intermediate('l2_norms', [rows]);
  program.dispatch(l2NormalizeKernel.plan(size, program.gpu.capabilities), [x, y, norms]);
  if (!graph.needsGradient(x)) return y;

  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(
      x,
      (into, sum) => {
        const add = sum !== undefined;
        const plan = backwardKernel.plan({ ...size, sourceRows: x.rows, add }, program.gpu.capabilities);
        program.dispatch(plan, [x, norms, dy, sum ?? dy, into]);
      },
      { fuse: true },
    );
  });
  return y;
}
