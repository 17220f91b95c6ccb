/** How the row kernels (layer-norm, L2, weight norm) divide a workgroup between rows, and what of a row stays in registers. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf } from './storage.js';

/** Most bytes of a row that one lane holds between two passes: 96 registers of 32 bits. */
const HELD_BYTES = 384;

/** Invocations of a workgroup, as lib/rows.wgsl and lib/rows_subgroup.wgsl define them. */
const THREADS = { barriers: 64, subgroups: 256 };

/** The parts of a plan that all row kernels share. */
export interface RowWork {
  readonly grid: KernelPlan['grid'];
  /** Defines ROW_THREADS, ROWS and row_sum. */
  readonly include: string;
  /**
   * A row is QUADS quads; each of its LANES lanes takes every LANES-th, STEPS of them at most. With HOLD a lane keeps its
   * quads in arrays of HELD; without, they are loaded again in the next pass.
   */
  readonly prelude: {
    readonly LANES: number;
    readonly QUADS: number;
    readonly STEPS: number;
    readonly HOLD: boolean;
    readonly HELD: number;
  };
}

/**
 * About one quad a lane up to 32 lanes, so that short rows share a workgroup and a row never crosses a subgroup of 32.
 * Where subgroups are that wide, sums are shuffles; else they go through workgroup memory. One lane on adapters that run
 * on a CPU, where the barriers of a sum over lanes cost more than the row.
 * @param heldBytesPerQuad bytes of each quad that the kernel needs again in its second pass
 * @throws GpuError for a width that is not a multiple of 4
 */
export function rowWork(
  kernel: string,
  rows: number,
  columns: number,
  heldBytesPerQuad: number,
  caps: Capabilities,
): RowWork {
  const quads = quadsOf(kernel, columns);
  let lanes = caps.software ? 1 : 4;
  while (!caps.software && lanes < 32 && lanes < quads) lanes *= 2;
  const steps = Math.ceil(quads / lanes);
  const shuffled = !caps.software && caps.subgroups && caps.subgroupMinSize >= lanes;
  const hold = !caps.software && steps * heldBytesPerQuad <= HELD_BYTES;
  return {
    grid: foldGrid(Math.ceil((rows * lanes) / (shuffled ? THREADS.subgroups : THREADS.barriers))),
    include: shuffled ? 'lib/rows_subgroup.wgsl' : 'lib/rows.wgsl',
    prelude: { LANES: lanes, QUADS: quads, STEPS: steps, HOLD: hold, HELD: hold ? steps : 1 },
  };
}
