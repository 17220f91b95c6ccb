/** How the kernels that sum down columns (those that include lib/columns.wgsl) divide rows and columns between invocations. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { quadsOf } from './storage.js';

/**
 * Quads and rows that a workgroup works on at once. On a GPU 16 neighbouring quads make whole cache lines, and 16 rows at
 * a time hide the memory's latency; on a CPU the barriers of a sum over rows would cost more than they bring.
 */
function shapeOf(caps: Capabilities): { columnLanes: number; rowLanes: number } {
  return caps.software ? { columnLanes: 32, rowLanes: 1 } : { columnLanes: 16, rowLanes: 16 };
}

export interface ColumnWork {
  /** Workgroups side by side; the second dimension of the grid is the parts. */
  readonly groups: number;
  readonly prelude: { readonly QUADS: number; readonly COLUMN_LANES: number; readonly ROW_LANES: number };
}

/** @throws GpuError for a width that is not a multiple of 4 */
export function columnWork(kernel: string, columns: number, caps: Capabilities): ColumnWork {
  const quads = quadsOf(kernel, columns);
  const { columnLanes, rowLanes } = shapeOf(caps);
  return {
    groups: Math.ceil(quads / columnLanes),
    prelude: { QUADS: quads, COLUMN_LANES: columnLanes, ROW_LANES: rowLanes },
  };
}

export interface RowParts {
  readonly parts: number;
  readonly rowsPerPart: number;
}

/** Parts for a sum over `rows` rows of `columns`: enough to fill the machine, few enough to add up. */
export function splitRows(rows: number, columns: number, caps: Capabilities): RowParts {
  const [invocations, rowsEach] = caps.software ? [2 ** 12, 16] : [2 ** 18, 4];
  const { rowLanes } = shapeOf(caps);
  const wanted = Math.min(Math.ceil((4 * invocations) / (columns * rowLanes)), Math.ceil(rows / (rowsEach * rowLanes)));
  const rowsPerPart = Math.ceil(rows / Math.max(wanted, 1));
  return { parts: Math.ceil(rows / rowsPerPart), rowsPerPart };
}
