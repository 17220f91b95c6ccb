/**
 * Position embeddings resized to another grid, in the two modes of the official code, with their gradient (spec §1.4).
 * Both modes are separable linear maps, so one kernel does them and, with the matrices transposed, their gradient.
 */

import * as resampleGrid from '../../kernels/resample_grid.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

export interface InterpolationMode {
  /** Added to the target size when the scale is computed; 0.1 in models without registers. Ignored when antialiasing. */
  readonly offset: number;
  readonly antialias: boolean;
}

/** The cubic convolution kernel with parameter A at distance d >= 0. */
function cubic(d: number, A: number): number {
  if (d <= 1) return (A + 2) * d ** 3 - (A + 3) * d ** 2 + 1;
  if (d < 2) return A * d ** 3 - 5 * A * d ** 2 + 8 * A * d - 4 * A;
  return 0;
}

/**
 * The weights of one axis: row o holds what each of `from` source cells gives to output o.
 * Mode A (no antialias): PyTorch's bicubic with a given scale factor, A = -0.75, edges repeated.
 * Mode B (antialias): support widened by the ratio when shrinking, A = -0.5, weights normalised to 1.
 */
export function resampleMatrix(from: number, to: number, mode: InterpolationMode): Float64Array {
  const matrix = new Float64Array(to * from);
  for (let o = 0; o < to; o++) {
    if (!mode.antialias) {
      const source = ((o + 0.5) * from) / (to + mode.offset) - 0.5;
      const i0 = Math.floor(source);
      const t = source - i0;
      for (let tap = -1; tap <= 2; tap++) {
        const i = Math.min(Math.max(i0 + tap, 0), from - 1);
        matrix[o * from + i] += cubic(Math.abs(tap - t), -0.75);
      }
    } else {
      const ratio = from / to;
      const widening = Math.max(ratio, 1);
      const support = 2 * widening;
      const centre = ratio * (o + 0.5);
      const low = Math.max(Math.trunc(centre - support + 0.5), 0);
      const high = Math.min(Math.trunc(centre + support + 0.5), from);
      let total = 0;
      for (let j = low; j < high; j++)
        total += matrix[o * from + j] = cubic(Math.abs((j - centre + 0.5) / widening), -0.5);
      for (let j = low; j < high; j++) matrix[o * from + j] /= total;
    }
  }
  return matrix;
}

interface AxisMap {
  readonly from: number;
  readonly to: number;
  readonly matrix: Float64Array;
}

function transposed({ from, to, matrix }: AxisMap): AxisMap {
  const result = new Float64Array(matrix.length);
  for (let o = 0; o < to; o++) for (let i = 0; i < from; i++) result[i * to + o] = matrix[o * from + i];
  return { from: to, to: from, matrix: result };
}

/** For every output of an axis, the first source with a weight and the one past the last. */
function bands({ from, to, matrix }: AxisMap): [number, number][] {
  return Array.from({ length: to }, (_, o) => {
    const line = matrix.subarray(o * from, (o + 1) * from);
    const first = line.findIndex((v) => v !== 0);
    let last = from;
    while (last > 0 && line[last - 1] === 0) last--;
    return first < 0 ? [0, 0] : [first, last];
  });
}

function dispatchResample(
  program: Program,
  name: string,
  grid: Tensor,
  rows: AxisMap,
  columns: AxisMap,
  out: Tensor,
): void {
  const [rowBands, columnBands] = [bands(rows), bands(columns)];
  const width = (band: [number, number][]): number => band.reduce((sum, [low, high]) => sum + high - low, 0);
  program.dispatch(
    resampleGrid.plan({
      inHeight: rows.from,
      inWidth: columns.from,
      outHeight: rows.to,
      outWidth: columns.to,
      columns: grid.columns,
      taps: width(rowBands) * width(columnBands),
    }),
    [
      grid,
      program.constant(`${name} rows`, [rows.to, rows.from], Float32Array.from(rows.matrix)),
      program.constant(`${name} columns`, [columns.to, columns.from], Float32Array.from(columns.matrix)),
      program.constant(
        `${name} bands`,
        [rows.to + columns.to, 2],
        Uint32Array.from([...rowBands, ...columnBands].flat()),
      ),
      out,
    ],
  );
}

/**
 * @param position [1 + side², D] (or [1, 1 + side², D]): the CLS row, then the grid row by row
 * @param size grid of the result, [height, width]
 * @returns [1 + height width, D]; the parameter itself where no resize is needed
 */
export function resizePosition(
  graph: Graph,
  position: Tensor,
  size: readonly [number, number],
  mode: InterpolationMode,
): Tensor {
  const columns = position.columns;
  const side = Math.round(Math.sqrt(position.rows - 1));
  const [height, width] = size;
  if (height === side && width === side) return position.reshape([position.rows, columns]);
  const { program } = graph;
  const axis = (to: number): AxisMap => ({ from: side, to, matrix: resampleMatrix(side, to, mode) });
  const [rows, cols] = [axis(height), axis(width)];
  const out = program.intermediate('position', [1 + height * width, columns]);
  dispatchResample(program, 'resize position', position, rows, cols, out);
  if (graph.needsGradient(position)) {
    graph.onBackward([out], ([dout]) => {
      if (!dout) return;
      graph.contribute(position, (into) => {
        dispatchResample(program, 'resize position backward', dout, transposed(rows), transposed(cols), into);
      });
    });
  }
  return out;
}
