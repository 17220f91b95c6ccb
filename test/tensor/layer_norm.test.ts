import test from 'tape';
import type { Program } from '../../src/gpu/program.js';
import { layerNorm } from '../../src/tensor/layer_norm.js';
import { NO_ROW, type RowSubset } from '../../src/tensor/rows.js';
import { checkOperator, noise } from '../fixture.js';
import * as oracle from '../oracle/layer_norm.js';

function subsetOf(program: Program, rows: readonly number[], of: number): RowSubset {
  const inverse = new Uint32Array(of).fill(NO_ROW);
  rows.forEach((row, r) => {
    inverse[row] = r;
  });
  return {
    index: program.constant('index', [rows.length], Uint32Array.from(rows)),
    inverse: program.constant('inverse', [of], inverse),
  };
}

test('layer-norm, golden numbers of the specification', async (t) => {
  const y = oracle.layerNorm([1, 2, 3, 5], [1, 1, 1, 1], [0, 0, 0, 0], 4);
  [-1.183216, -0.507092, 0.169031, 1.521277].forEach((value, i) => {
    t.ok(Math.abs(y[i] - value) < 1e-6, `the oracle gives ${value}`);
  });
});

for (const [rows, columns] of [
  [1, 8],
  [50, 24],
  [257, 64],
  [261, 384],
  [3, 1536],
]) {
  test(`layer-norm ${rows} x ${columns}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `layer_norm ${rows}x${columns}`,
      inputs: {
        x: { shape: [rows, columns], data: noise(rows * columns, 1).map((v) => 2 * v + 0.3) },
        weight: { shape: [columns], data: noise(columns, 2).map((v) => 1 + 0.3 * v) },
        bias: { shape: [columns], data: noise(columns, 3) },
      },
      build: (graph, { x, weight, bias }) => layerNorm(graph, x, weight, bias),
      oracle: ({ x, weight, bias }) => oracle.layerNorm(x, weight, bias, columns),
    });
  });
}

test('layer-norm of some rows, read through an index', async (t) => {
  const kept = [7, 0, 36, 12, 13];
  await checkOperator(t, {
    hardwareToo: true,
    name: 'layer_norm gathered',
    inputs: {
      x: { shape: [37, 40], data: noise(37 * 40, 4) },
      weight: { shape: [40], data: noise(40, 5) },
      bias: { shape: [40], data: noise(40, 6) },
    },
    build: (graph, { x, weight, bias }) => layerNorm(graph, x, weight, bias, subsetOf(graph.program, kept, 37)),
    oracle: ({ x, weight, bias }) => oracle.layerNorm(x, weight, bias, 40, kept),
  });
});
