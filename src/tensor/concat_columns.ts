/** Features of several tensors side by side; a tensor with one row a picture stands beside each of its pixels (spec §6.5.2). */

import * as placeColumns from '../../kernels/place_columns.js';
import * as takeColumns from '../../kernels/take_columns.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32 } from './feature_map.js';
import type { Graph } from './graph.js';

/**
 * @param parts f32 [R, C_i], or [R / k, C_i]: each of its rows is then repeated for k rows in a row
 * @returns f32 [R, sum of C_i], R the most rows of a part
 * @throws GpuError where R is not a multiple of a part's rows
 */
export function concatColumns(graph: Graph, parts: readonly Tensor[]): Tensor {
  const { program } = graph;
  assertFloat32('concatColumns', ...parts);
  const rows = Math.max(...parts.map((part) => part.rows));
  const wide = parts.reduce((sum, part) => sum + part.columns, 0);
  let first = 0;
  const ranges = parts.map((part) => {
    if (rows % part.rows !== 0) {
      throw new GpuError(`concatColumns: the rows of ${part.name} [${part.shape}] do not divide ${rows} rows`);
    }
    const range = { rows, columns: part.columns, first, wide, repeat: rows / part.rows };
    first += part.columns;
    return range;
  });
  const out = program.intermediate('concatenated', [rows, wide]);
  ranges.forEach((range, i) => {
    program.dispatch(placeColumns.plan(range), [parts[i], out]);
  });
  if (!graph.needsGradient(...parts)) return out;
  graph.onBackward([out], ([dout]) => {
    if (!dout) return;
    ranges.forEach((range, i) => {
      graph.contribute(parts[i], (into) => program.dispatch(takeColumns.plan(range), [dout, into]));
    });
  });
  return out;
}
