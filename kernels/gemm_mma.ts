/**
 * The `mma` variant of gemm: half operands, multiplied by subgroup matrices, summed in float32.
 *
 * A workgroup owns a tile of 8 x 8 matrices (128 x 128 with matrices of 16 x 16) or, where that leaves many workgroups idle,
 * of 8 x 6.
 */

import { GpuError } from '../src/errors.js';
import { type Capabilities, matrixConfig } from '../src/gpu/capabilities.js';
import { alignUp } from '../src/gpu/constants.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { gemmCost, gemmEpilogue, type GemmParams } from './gemm_epilogue.js';
import { mmaConstants } from './mma.js';

/** Columns of matrices that each of the 2 x 2 subgroups owns. */
export type ColumnTiles = 4 | 3;

/** Workgroups that a large GPU runs at once (two on each of 132 multiprocessors); also what `splitK` aims for. */
const SLOTS = 264;

/** What the tile of 8 x 6 matrices reaches of the other's rate, both without idle workgroups: measured on an H100. */
const NARROW_RATE = 0.81;

/** How the tiles of one operand lie in workgroup memory: rows of `width` vectors of 8 halves, in each of two blocks. */
interface Block {
  readonly rows: number;
  readonly width: number;
}

interface Tiling {
  readonly rows: number;
  readonly columns: number;
  /** Of K, in one slice. */
  readonly depth: number;
  readonly a: Block;
  readonly b: Block;
  /** Vectors of one of the four blocks, which hold the operands' slices and later the result. */
  readonly blockVectors: number;
  readonly workgroupBytes: number;
}

function tiling({ layout }: GemmParams, caps: Capabilities, columnTiles: ColumnTiles): Tiling {
  const { MMA_M, MMA_N, MMA_K } = mmaConstants(caps);
  const depth = 2 * MMA_K;
  const subgroupRows = 4 * MMA_M;
  const subgroupColumns = columnTiles * MMA_N;
  const block = (alongK: boolean, across: number): Block =>
    alongK ? { rows: across, width: depth / 8 } : { rows: depth, width: across / 8 };
  const a = block(layout !== 'TN', subgroupRows);
  const b = block(layout === 'NT', subgroupColumns);
  // A row has one vector to spare, as in the shader's strides.
  const stage = MMA_M * (subgroupColumns / 4 + 1);
  const blockVectors = Math.max(a.rows * (a.width + 1), b.rows * (b.width + 1), stage);
  return {
    rows: 2 * subgroupRows,
    columns: 2 * subgroupColumns,
    depth,
    a,
    b,
    blockVectors,
    workgroupBytes: 4 * 16 * blockVectors,
  };
}

/**
 * Whether this product can run on the adapter's subgroup matrices: it has them, operands are halves, rows of the operands
 * hold whole vectors of 8 and rows of the result whole quads.
 */
export function fits(params: GemmParams, caps: Capabilities): boolean {
  const { layout, M, N, K, operands } = params;
  const alongRows = layout === 'TN' ? [M, N] : layout === 'NN' ? [K, N] : [K];
  return (
    operands === 'f16' &&
    matrixConfig(caps) !== undefined &&
    N % 4 === 0 &&
    alongRows.every((size) => size % 8 === 0) &&
    tiling(params, caps, 4).workgroupBytes <= caps.maxWorkgroupMemoryBytes &&
    4 * caps.subgroupMaxSize <= caps.maxInvocationsPerWorkgroup
  );
}

/** The tile that keeps more of the GPU busy: the last round of workgroups and the last tile of a row may be mostly empty. */
export function chooseColumnTiles(params: GemmParams, caps: Capabilities): ColumnTiles {
  const busy = (columnTiles: ColumnTiles): { workgroups: number; share: number } => {
    const { rows, columns } = tiling(params, caps, columnTiles);
    const across = Math.ceil(params.N / columns);
    const workgroups = Math.ceil(params.M / rows) * across;
    const rounds = Math.ceil(workgroups / SLOTS);
    return { workgroups, share: (workgroups / (rounds * SLOTS)) * (params.N / (across * columns)) };
  };
  const wide = busy(4);
  // Less than one round: splitting K fills it, and wide tiles read less.
  if (wide.workgroups <= SLOTS) return 4;
  return NARROW_RATE * busy(3).share > wide.share ? 3 : 4;
}

/** Rows and columns of the result that a workgroup owns. */
export function tile(
  params: GemmParams,
  caps: Capabilities,
  columnTiles: ColumnTiles = chooseColumnTiles(params, caps),
): readonly [number, number] {
  const { rows, columns } = tiling(params, caps, columnTiles);
  return [rows, columns];
}

/**
 * Bindings as `plan` of gemm.ts.
 * @throws GpuError where it does not fit
 */
export function plan(
  params: GemmParams,
  caps: Capabilities,
  columnTiles: ColumnTiles = chooseColumnTiles(params, caps),
): KernelPlan {
  const { layout, M, N, K, parts = 1 } = params;
  if (!fits(params, caps)) {
    throw new GpuError(
      `gemm ${layout} [${M}, ${N}, ${K}]: subgroup matrices need half operands with multiples of 8 along rows, a multiple ` +
        'of 4 columns, and an adapter that has them',
    );
  }
  const { rows, columns, depth, a, b, blockVectors } = tiling(params, caps, columnTiles);
  const { prelude, includes, bindings } = gemmEpilogue(params);
  return {
    shader: 'gemm_mma.wgsl',
    prelude: {
      ...prelude,
      ...mmaConstants(caps),
      MMA_BLOCK: blockVectors,
      COLUMN_TILES: columnTiles,
      A_ROWS: a.rows,
      A_WIDTH: a.width,
      B_ROWS: b.rows,
      B_WIDTH: b.width,
    },
    includes,
    parameters: [M, N, K, alignUp(Math.ceil(K / parts), depth)],
    grid: [Math.ceil(N / columns), Math.ceil(M / rows), parts],
    bindings,
    ...gemmCost(params),
  };
}
