/** One matrix product for every head of every sequence: attention whose scores lie in memory. */

import type { Capabilities } from '../../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { type GemmLayout, LAYOUT_NUMBERS } from '../gemm_epilogue.js';

/** Where the matrices of one operand lie in its tensor, in elements. */
export interface MatrixStrides {
  /** The first matrix. */
  readonly first: number;
  /** From one sequence, head and row to the next. */
  readonly sequence: number;
  readonly head: number;
  readonly row: number;
}

export interface BatchedGemmParams {
  readonly layout: GemmLayout;
  /** Products: sequences times heads, at most 65,535 where they are tiled. */
  readonly sequences: number;
  readonly heads: number;
  /** Of one product. */
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** What the product is multiplied by. */
  readonly alpha: number;
  readonly a: MatrixStrides;
  readonly b: MatrixStrides;
  readonly c: MatrixStrides;
}

/** Rows and columns of a product that a workgroup of the tiled kernel owns. */
const TILE = 64;

/** Invocations of a workgroup of the direct kernel, each with 8 x 4 results. */
const DIRECT_THREADS = 64;

/**
 * Tiles through workgroup memory or, on adapters that run on a CPU, registers only (batched_gemm_direct.wgsl).
 * Bindings: a, b, c; of c only the matrices are written.
 */
export function plan(params: BatchedGemmParams, caps: Capabilities): KernelPlan {
  const { layout, sequences, heads, M, N, K, alpha, a, b, c } = params;
  const products = sequences * heads;
  const strides = [a, b, c].flatMap(({ first, sequence, head, row }) => [first, sequence, head, row]);
  return {
    shader: `plain/batched_gemm${caps.software ? '_direct' : ''}.wgsl`,
    prelude: { LAYOUT: LAYOUT_NUMBERS[layout], ALPHA: alpha },
    parameters: [M, N, K, heads, products, ...strides],
    grid: caps.software
      ? foldGrid(Math.ceil((products * Math.ceil(M / 8) * Math.ceil(N / 4)) / DIRECT_THREADS))
      : [Math.ceil(N / TILE), Math.ceil(M / TILE), products],
    bindings: ['read', 'read', 'read_write'],
    flops: 2 * M * N * K * products,
    bytes: 4 * (M * K + K * N + M * N) * products,
  };
}
