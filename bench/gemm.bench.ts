/**
 * How fast is a matrix product: three layouts, all variants, both storages, the fused epilogues, split-K, a whole MLP with
 * its gradients; and what others need for the same product (peers.ts).
 */

import * as gemm from '../kernels/gemm.js';
import * as sumPartials from '../kernels/sum_partials.js';
import { matrixConfig, type Capabilities } from '../src/gpu/capabilities.js';
import type { Storage } from '../src/gpu/tensor.js';
import { dispatchGemm, mlp } from '../src/tensor/linear.js';
import { noise } from '../test/fixture.js';
import * as oracle from '../test/oracle/linear.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compareSamples, FORWARD_BOUND, HALF_BOUND, HALF_OPERANDS_BOUND } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';
import { productPeers } from './peers.js';
import { storedNoise } from './storages.js';

/** Element (m, n) of the product in float64. */
function productAt(
  { layout, M, N, K }: gemm.GemmParams,
  a: Float32Array,
  b: Float32Array,
  m: number,
  n: number,
): number {
  let sum = 0;
  for (let k = 0; k < K; k++) {
    sum += (layout === 'TN' ? a[k * M + m] : a[m * K + k]) * (layout === 'NT' ? b[n * K + k] : b[k * N + n]);
  }
  return sum;
}

/** Derivative of the exact GELU. */
function geluSlope(x: number): number {
  return 0.5 * (1 + oracle.erf(x / Math.SQRT2)) + (x * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI);
}

function gemmCase(params: gemm.GemmParams): BenchCase {
  const { layout, M, N, K, bias: biased = false, epilogue = 'none', parts = 1, variant } = params;
  const { operands = 'f32', result: resultStorage = 'f32' } = params;
  const storage = operands === resultStorage ? operands : `${operands} → ${resultStorage}`;
  const named = [
    biased ? ' + bias' : '',
    epilogue === 'none' ? '' : ` + ${epilogue}`,
    parts > 1 ? `, K in ${parts} parts` : '',
    variant ? `, ${variant}` : '',
    storage === 'f32' ? '' : ` (${storage})`,
  ];
  return operatorCase(`gemm ${layout}${named.join('')}`, `${M} × ${N} × ${K}`, (program) => {
    const input = (name: string, shape: readonly number[], wanted: boolean, stored: Storage = 'f32') =>
      wanted ? program.input(name, shape, stored) : undefined;
    const a = program.input('a', layout === 'TN' ? [K, M] : [M, K], operands);
    const b = program.input('b', layout === 'NT' ? [N, K] : [K, N], operands);
    const bias = input('bias', [N], biased);
    const extra = input('extra', [M, N], epilogue === 'geluBackward' || epilogue === 'residual', resultStorage);
    const gamma = input('gamma', [N], epilogue === 'residual');
    const keepsInput = epilogue === 'geluKeep';
    const inputs = [a, b, bias, extra, gamma];
    let data: Float32Array[] = [];
    return {
      prepare: () => {
        data = inputs.map((tensor, i) => storedNoise(tensor?.elements ?? 0, i + 1, tensor?.storage ?? 'f32'));
        for (const [i, tensor] of inputs.entries()) if (tensor) program.write(tensor, data[i]);
      },
      record: () => {
        const out = program.intermediate('product', parts > 1 ? [parts, M, N] : [M, N], resultStorage);
        const kept = keepsInput ? program.intermediate('kept', [M, N], resultStorage) : undefined;
        dispatchGemm(program, params, { a, b, bias, extra, gamma, out, kept });
        if (parts === 1) return kept ? [out, kept] : [out];
        const sum = program.intermediate('sum', [M, N]);
        program.dispatch(sumPartials.plan({ parts, elements: M * N }), [out, sum]);
        return [sum];
      },
      check: ([result, kept]) => {
        const [left, right, biases, extras, gammas] = data;
        const at = (place: number): number => {
          const [m, n] = [Math.floor(place / N), place % N];
          return productAt(params, left, right, m, n) + (biased ? biases[n] : 0);
        };
        const expected = (place: number): number => {
          const v = at(place);
          if (epilogue === 'gelu' || epilogue === 'geluKeep') return oracle.gelu(v);
          if (epilogue === 'geluBackward') return v * geluSlope(extras[place]);
          if (epilogue === 'residual') return extras[place] + gammas[place % N] * v;
          return v;
        };
        const exact = operands === 'f16' ? HALF_OPERANDS_BOUND : FORWARD_BOUND;
        const bound = resultStorage === 'f16' ? HALF_BOUND : exact;
        const comparisons = [compareSamples('product', result, expected, bound)];
        if (kept) comparisons.push(compareSamples('what the GELU was taken of', kept, at, bound));
        return comparisons;
      },
    };
  });
}

const LAYOUTS = ['NT', 'NN', 'TN'] as const;

/** A weight gradient [M, N] over K rows, cut in as many parts as training would. */
function weightGradient(M: number, N: number, K: number, capabilities: Capabilities): BenchCase {
  const params = { layout: 'TN', M, N, K, operands: 'f16' } as const;
  return gemmCase({ ...params, parts: gemm.splitK(params, capabilities) });
}

/** A product of square matrices in each layout. */
export function squareProducts(size: number, operands: Storage): BenchCase[] {
  return LAYOUTS.map((layout) => gemmCase({ layout, M: size, N: size, K: size, operands }));
}

/** The shapes of the targets, which only a GPU does in a moment. */
function largeCases(capabilities: Capabilities): BenchCase[] {
  const square = { M: 4096, N: 4096, K: 4096 };
  // Half operands without the matrices that the adapter has.
  const plain = matrixConfig(capabilities)
    ? [gemmCase({ layout: 'NT', ...square, operands: 'f16', variant: 'tiled' })]
    : [];
  const wide = { layout: 'NT', M: 16448, N: 4096, K: 1024, bias: true, epilogue: 'gelu' } as const;
  return [
    ...squareProducts(4096, 'f32'),
    ...squareProducts(4096, 'f16'),
    ...plain,
    gemmCase(wide),
    gemmCase({ ...wide, operands: 'f16', result: 'f16' }),
    // Tiles of 128 columns would leave a GPU a quarter idle.
    gemmCase({ layout: 'NN', M: 16448, N: 384, K: 1536, operands: 'f16', result: 'f16' }),
    weightGradient(1024, 4096, 16448, capabilities),
    weightGradient(384, 1536, 16448, capabilities),
    weightGradient(384, 384, 16448, capabilities),
  ];
}

function smallCases(capabilities: Capabilities): BenchCase[] {
  const rows = 257 * 2;
  const D = 384;
  const list: BenchCase[] = [];
  for (const layout of LAYOUTS) {
    const [M, N, K] = layout === 'TN' ? [D, D, rows] : [rows, D, D];
    for (const variant of ['direct', 'tiled'] as const) list.push(gemmCase({ layout, M, N, K, variant }));
    list.push(gemmCase({ layout, M, N, K, operands: 'f16' }));
  }
  // No size a multiple of 4, so that only the tiled variant fits.
  for (const layout of LAYOUTS) list.push(gemmCase({ layout, M: 261, N: 257, K: 50 + 1 }));
  const fused = { layout: 'NT', M: rows, N: D, K: D, bias: true } as const;
  for (const epilogue of ['none', 'gelu', 'geluKeep', 'residual'] as const) list.push(gemmCase({ ...fused, epilogue }));
  list.push(gemmCase({ ...fused, epilogue: 'gelu', operands: 'f16', result: 'f16' }));
  list.push(gemmCase({ ...fused, layout: 'NN', bias: false, epilogue: 'geluBackward' }));
  const split = { layout: 'TN', M: 256, N: 256, K: 2056 } as const;
  list.push(gemmCase({ ...split, parts: Math.max(gemm.splitK(split, capabilities), 2) }));
  list.push(weightGradient(256, D, rows, capabilities));
  return list;
}

function cases(capabilities: Capabilities): BenchCase[] {
  const { software } = capabilities;
  const list = software ? smallCases(capabilities) : largeCases(capabilities);
  const [R, I, H] = software ? [257, 128, 512] : [257 * 8, 384, 1536];
  list.push(
    ...forwardAndBackward({
      operator: 'mlp, two layers with GELU',
      shape: `${R} × ${I} → ${H} → ${I}`,
      half: true,
      inputs: {
        x: { shape: [R, I] },
        w1: { shape: [H, I], weight: true, data: () => noise(H * I, 11).map((v) => 0.1 * v) },
        b1: { shape: [H], weight: true },
        w2: { shape: [I, H], weight: true, data: () => noise(I * H, 12).map((v) => 0.1 * v) },
        b2: { shape: [I], weight: true },
      },
      build: (graph, { x, w1, b1, w2, b2 }) =>
        mlp(graph, x, [
          { weight: w1, bias: b1 },
          { weight: w2, bias: b2 },
        ]),
      oracle: ({ x, w1, b1, w2, b2 }) => oracle.linear(oracle.linear(x, w1, b1, I).map(oracle.gelu), w2, b2, H),
    }),
  );
  return list;
}

export const section: BenchSection = {
  name: 'gemm',
  question: 'How fast is a matrix product?',
  cases,
  peers: productPeers,
};
