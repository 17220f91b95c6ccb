/** A range of a matrix's columns as a matrix of its own; for frozen features, so it has no backward. */

import * as takeColumns from '../../kernels/take_columns.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/**
 * @param x f32 [rows, wide]
 * @param first column of the range
 * @returns f32 [rows, columns]; `x` itself where that is all of it
 * @throws GpuError for columns that are not there, or where a gradient would have to flow through
 */
export function columnRange(graph: Graph, x: Tensor, first: number, columns: number): Tensor {
  if (graph.needsGradient(x)) throw new GpuError('columnRange is for frozen features: record it without gradient');
  if (x.dtype !== 'f32' || first < 0 || first + columns > x.columns) {
    throw new GpuError(`columnRange: no float32 columns ${first} to ${first + columns - 1} of ${x.name} [${x.shape}]`);
  }
  if (columns === x.columns) return x;
  const { program } = graph;
  const out = program.intermediate('columns', [x.rows, columns]);
  program.dispatch(takeColumns.plan({ rows: x.rows, columns, first, wide: x.columns, repeat: 1 }), [x, out]);
  return out;
}
