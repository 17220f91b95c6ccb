/** How fast are the row normalisations: layer-norm (all rows, and rows read through an index), L2, weight norm. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { l2Normalize } from '../src/tensor/l2_normalize.js';
import { layerNorm } from '../src/tensor/layer_norm.js';
import { weightNorm } from '../src/tensor/weight_norm.js';
import * as l2Oracle from '../test/oracle/l2_normalize.js';
import * as layerNormOracle from '../test/oracle/layer_norm.js';
import { inverse } from '../test/oracle/row_subsets.js';
import * as weightNormOracle from '../test/oracle/weight_norm.js';
import type { BenchCase, BenchSection } from './checked_bench.js';
import { forwardAndBackward } from './differentiable.js';

function layerNormCases(rows: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'layer_norm',
    shape: `${rows} × ${columns}`,
    inputs: {
      x: { shape: [rows, columns] },
      weight: { shape: [columns], weight: true },
      bias: { shape: [columns], weight: true },
    },
    half: true,
    build: (graph, { x, weight, bias }) => layerNorm(graph, x, weight, bias),
    oracle: ({ x, weight, bias }) => layerNormOracle.layerNorm(x, weight, bias, columns),
  });
}

/** Stochastic depth: two of three rows are kept and come in another order. */
function layerNormOfKeptRows(rows: number, columns: number): BenchCase[] {
  const kept = Uint32Array.from({ length: Math.floor((2 * rows) / 3) }, (_, r) => rows - 1 - Math.floor(1.5 * r));
  return forwardAndBackward({
    operator: 'layer_norm of kept rows',
    shape: `${kept.length} of ${rows} × ${columns}`,
    inputs: {
      x: { shape: [rows, columns] },
      weight: { shape: [columns], weight: true },
      bias: { shape: [columns], weight: true },
    },
    half: true,
    tables: {
      index: { shape: [kept.length], data: kept },
      inverse: { shape: [rows], data: inverse(kept, rows) },
    },
    build: (graph, { x, weight, bias, index, inverse: back }) =>
      layerNorm(graph, x, weight, bias, { index, inverse: back }),
    oracle: ({ x, weight, bias }) => layerNormOracle.layerNorm(x, weight, bias, columns, kept),
  });
}

function l2NormalizeCases(rows: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'l2_normalize',
    shape: `${rows} × ${columns}`,
    inputs: { x: { shape: [rows, columns] } },
    half: true,
    build: (graph, { x }) => l2Normalize(graph, x),
    oracle: ({ x }) => l2Oracle.l2Normalize(x, columns),
  });
}

function weightNormCases(rows: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'weight_norm',
    shape: `${rows} × ${columns}`,
    inputs: { v: { shape: [rows, columns], weight: true }, g: { shape: [rows, 1], weight: true } },
    half: true,
    build: (graph, { v, g }) => weightNorm(graph, v, g),
    oracle: ({ v, g }) => weightNormOracle.weightNorm(v, g, columns),
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const tokens = software ? 4 * 257 : 64 * (2 * 257 + 8 * 50);
  return [
    ...layerNormCases(tokens, 384),
    // ViT-L, which the targets are given for.
    ...(software ? [] : layerNormCases(64 * 257, 1024)),
    ...layerNormCases(257, 260),
    ...layerNormOfKeptRows(tokens, 384),
    ...l2NormalizeCases(software ? 512 : 8192, 256),
    ...l2NormalizeCases(50, 260),
    ...weightNormCases(software ? 2048 : 65536, 256),
    ...weightNormCases(261, 52),
  ];
}

export const section: BenchSection = { name: 'norms', question: 'How fast are the row normalisations?', cases };
