/** How fast is what moves tokens: from pixels to packed sequences and back, residuals, activations, sums of columns. */

import * as addInPlace from '../kernels/add_in_place.js';
import * as copyRows from '../kernels/copy_rows.js';
import * as geluKernel from '../kernels/gelu.js';
import * as layerScaleGradient from '../kernels/layer_scale_gradient.js';
import * as patchify from '../kernels/patchify.js';
import * as resizeColumns from '../kernels/resize_columns.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { gatherRows } from '../src/tensor/gather_rows.js';
import { Graph } from '../src/tensor/graph.js';
import { columnSums } from '../src/tensor/linear.js';
import { resizePosition } from '../src/tensor/position.js';
import { layerScale, scaledResidual } from '../src/tensor/residual.js';
import { NO_ROW } from '../src/tensor/rows.js';
import { swiglu } from '../src/tensor/swiglu.js';
import { tokenMeans } from '../src/tensor/token_means.js';
import { packTokens } from '../src/tensor/tokens.js';
import { noise } from '../test/fixture.js';
import { gelu } from '../test/oracle/linear.js';
import { inverse } from '../test/oracle/row_subsets.js';
import * as oracle from '../test/oracle/tokens.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare, compareExactly, compareSamples } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';
import { STORAGES, type Stored, storedNoise } from './storages.js';

/** Means and deviations of ImageNet's channels (spec §3.4). */
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

function patchifyCase(count: number, side: number, patch: number, { storage, mark, bound }: Stored): BenchCase {
  return operatorCase(`patchify of bytes${mark}`, `${count} × ${side} px, patch ${patch}`, (program) => {
    const across = side / patch;
    const columns = patchify.patchPitch(patch, storage);
    const bytes = new Uint8Array(Math.ceil((count * side * side * 3) / 4) * 4);
    const pixels = program.input('pixels', [bytes.length / 4], 'u32');
    return {
      prepare: () => {
        for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + (i >> 3)) % 256;
        program.write(pixels, bytes);
      },
      record: () => {
        const out = program.intermediate('patches', [count * across * across, columns], storage);
        const plan = patchify.plan({ count, height: side, width: side, patch, bytes: true, firstRow: 0, storage });
        program.dispatch(plan, [pixels, out]);
        return [out];
      },
      check: ([out]) => [
        compareSamples(
          'patches',
          out,
          (place) => {
            const [row, column] = [Math.floor(place / columns), place % columns];
            if (column >= 3 * patch * patch) return 0;
            const [image, at] = [Math.floor(row / across ** 2), row % across ** 2];
            const [channel, inside] = [Math.floor(column / patch ** 2), column % patch ** 2];
            const y = Math.floor(at / across) * patch + Math.floor(inside / patch);
            const x = (at % across) * patch + (inside % patch);
            return (bytes[((image * side + y) * side + x) * 3 + channel] / 255 - MEAN[channel]) / STD[channel];
          },
          bound,
        ),
      ],
    };
  });
}

/** Global crops with masks and local ones without, as the student sees them. */
function packTokensCases(
  batch: number,
  patches: number,
  localPatches: number,
  registers: number,
  D: number,
): BenchCase[] {
  const [globals, locals] = [2 * batch, 8 * batch];
  const masks = Uint32Array.from(noise(globals * patches, 9), (v) => (v < -0.4 ? 1 : 0));
  return forwardAndBackward({
    operator: 'assemble_tokens',
    shape: `${globals} × ${1 + registers + patches} + ${locals} × ${1 + registers + localPatches}, ${D}`,
    inputs: {
      embedded: { shape: [globals * patches + locals * localPatches, D] },
      cls: { shape: [1, 1, D], weight: true },
      registers: { shape: [1, registers, D], weight: true },
      mask: { shape: [1, D], weight: true },
      position: { shape: [1 + patches, D], weight: true },
      localPosition: { shape: [1 + localPatches, D], weight: true },
    },
    half: true,
    tables: { masks: { shape: [globals, patches], data: masks } },
    build: (graph, { embedded, cls, registers: tokens, mask, position, localPosition, masks: masked }) =>
      packTokens(
        graph,
        embedded,
        [
          { count: globals, patches, position, mask: masked },
          { count: locals, patches: localPatches, position: localPosition },
        ],
        { cls, registers: tokens, mask },
      ),
    oracle: ({ embedded, cls, registers: tokens, mask, position, localPosition }) =>
      oracle.packTokens(
        embedded,
        [
          { count: globals, patches, position, mask: masks },
          { count: locals, patches: localPatches, position: localPosition },
        ],
        cls,
        tokens,
        mask,
        D,
      ),
  });
}

/** The table of 224 px pictures for local crops of 98 px, in the mode of models without registers. */
function resampleCases(side: number, height: number, width: number, D: number): BenchCase[] {
  const offset = 0.1;
  return forwardAndBackward({
    operator: 'resample_grid (positions)',
    shape: `${side} × ${side} → ${height} × ${width}, ${D}`,
    inputs: { position: { shape: [1, 1 + side * side, D] } },
    build: (graph, { position }) => resizePosition(graph, position, [height, width], { offset, antialias: false }),
    oracle: ({ position }) => {
      const out = new Float64Array((1 + height * width) * D);
      for (let d = 0; d < D; d++) {
        const grid = (y: number, x: number): number => position[(1 + y * side + x) * D + d];
        out[d] = position[d];
        oracle.resizeModeA(grid, side, height, width, offset).forEach((v, cell) => {
          out[(1 + cell) * D + d] = v;
        });
      }
      return out;
    },
  });
}

function residualCases(rows: number, D: number): BenchCase[] {
  const all = forwardAndBackward({
    operator: 'scaled_residual',
    shape: `${rows} × ${D}`,
    inputs: { x: { shape: [rows, D] }, branch: { shape: [rows, D] }, gamma: { shape: [D], weight: true } },
    half: true,
    build: (graph, { x, branch, gamma }) => scaledResidual(graph, x, branch, layerScale(graph, gamma)),
    oracle: ({ x, branch, gamma }) => x.map((v, i) => v + gamma[i % D] * branch[i]),
  });
  const kept = Uint32Array.from({ length: Math.floor((2 * rows) / 3) }, (_, r) => rows - 1 - Math.floor(1.5 * r));
  const where = inverse(kept, rows);
  const factor = 1.5;
  const subset = forwardAndBackward({
    operator: 'scaled_residual of kept rows',
    shape: `${kept.length} of ${rows} × ${D}`,
    inputs: { x: { shape: [rows, D] }, branch: { shape: [kept.length, D] }, gamma: { shape: [D], weight: true } },
    half: true,
    tables: {
      index: { shape: [kept.length], data: kept },
      inverse: { shape: [rows], data: where },
      scale: { shape: [kept.length], data: new Float32Array(kept.length).fill(factor) },
    },
    build: (graph, { x, branch, gamma, index, inverse: back, scale }) =>
      scaledResidual(graph, x, branch, layerScale(graph, gamma), { subset: { index, inverse: back }, scale }),
    oracle: ({ x, branch, gamma }) =>
      x.map((v, i) => {
        const r = where[Math.floor(i / D)];
        return r === NO_ROW ? v : v + factor * gamma[i % D] * branch[r * D + (i % D)];
      }),
  });
  return [...all, ...subset];
}

function swigluCases(rows: number, hidden: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'swiglu',
    shape: `${rows} × 2 · ${hidden}`,
    inputs: { x: { shape: [rows, 2 * hidden] } },
    half: true,
    build: (graph, { x }) => swiglu(graph, x),
    oracle: ({ x }) => oracle.swiglu(x, hidden),
  });
}

/** What brings LayerScale's gradient out of the gradient of the linear layer before it. */
function layerScaleGradientCase(outputs: number, inputs: number): BenchCase {
  return operatorCase('layer_scale_gradient', `${outputs} × ${inputs}`, (program) => {
    const gradients = [program.input('d_weight', [outputs, inputs]), program.input('d_bias', [outputs])];
    const [dweight, dbias] = gradients.map(({ elements }, i) => noise(elements, i + 1));
    const [w, b] = [noise(outputs * inputs, 3), noise(outputs, 4)];
    const g = noise(outputs, 5).map((v) => 0.5 + 0.4 * v);
    // Apart from the gradients: what a dispatch writes and what it only reads may not lie in one buffer.
    const weight = program.constant('weight', [outputs, inputs], w);
    const bias = program.constant('bias', [outputs], b);
    const gamma = program.constant('gamma', [outputs], g);
    return {
      prepare: () => {
        program.write(gradients[0], dweight);
        program.write(gradients[1], dbias);
      },
      record: () => {
        const into = program.intermediate('d_gamma', [outputs]);
        const plan = layerScaleGradient.plan({ outputs, inputs, bias: true }, program.gpu.capabilities);
        program.dispatch(plan, [weight, gradients[0], bias, gradients[1], gamma, into]);
        return [into];
      },
      check: ([into]) => [
        compare(
          'd_gamma',
          into,
          Float64Array.from({ length: outputs }, (_, n) => {
            let sum = b[n] * dbias[n];
            for (let k = n * inputs; k < (n + 1) * inputs; k++) sum += w[k] * dweight[k];
            return sum / g[n];
          }),
        ),
      ],
    };
  });
}

function geluCase(rows: number, columns: number, { storage, mark, bound }: Stored): BenchCase {
  return operatorCase(`gelu${mark}`, `${rows} × ${columns}`, (program) => {
    const u = program.input('u', [rows, columns], storage);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(u.elements, 1, storage);
        program.write(u, data);
      },
      record: () => {
        const y = program.intermediate('gelu', u.shape, storage);
        program.dispatch(geluKernel.plan({ elements: u.elements, storage }), [u, y]);
        return [y];
      },
      check: ([y]) => [compareSamples('gelu', y, (place) => gelu(data[place]), bound)],
    };
  });
}

/** A gradient that two operators contribute to: a copy, then a sum in place. */
function copyAndAddCase(rows: number, columns: number, { storage, mark, bound }: Stored): BenchCase {
  return operatorCase(`copy_rows, then add_in_place${mark}`, `${rows} × ${columns}`, (program) => {
    const source = program.input('source', [rows, columns], storage);
    const value = program.input('value', [rows, columns], storage);
    let data: Float32Array[] = [];
    return {
      prepare: () => {
        data = [storedNoise(source.elements, 1, storage), storedNoise(value.elements, 2, storage)];
        program.write(source, data[0]);
        program.write(value, data[1]);
      },
      record: () => {
        const sum = program.intermediate('sum', [rows, columns], storage);
        program.dispatch(copyRows.plan({ rows, columns, from: 0, to: 0, storage }), [source, sum]);
        program.dispatch(addInPlace.plan({ elements: rows * columns, storage }), [sum, value]);
        return [sum];
      },
      check: ([sum]) => [
        compare(
          'sum',
          sum,
          Float64Array.from(data[0], (v, i) => v + data[1][i]),
          bound,
        ),
      ],
    };
  });
}

/** Patch weights padded with zeros to whole vectors and converted. */
function padColumnsCase(rows: number, patch: number, { storage, mark }: Stored): BenchCase {
  const [from, to] = [3 * patch * patch, patchify.patchPitch(patch, storage)];
  return operatorCase(`resize_columns${mark}`, `${rows} × ${from} to ${to}`, (program) => {
    const x = program.input('x', [rows, from]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(x.elements, 1, storage);
        program.write(x, data);
      },
      record: () => {
        const padded = program.intermediate('padded', [rows, to], storage);
        program.dispatch(resizeColumns.plan({ rows, from, to, result: storage }), [x, padded]);
        return [padded];
      },
      check: ([padded]) => [
        compareExactly(
          'padded',
          padded,
          Float64Array.from({ length: rows * to }, (_, i) =>
            i % to < from ? data[Math.floor(i / to) * from + (i % to)] : 0,
          ),
        ),
      ],
    };
  });
}

function columnSumsCase(rows: number, columns: number, { storage, mark }: Stored): BenchCase {
  return operatorCase(`column sums (bias gradient)${mark}`, `${rows} × ${columns}`, (program) => {
    const x = program.input('x', [rows, columns], storage);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(x.elements, 1, storage);
        program.write(x, data);
      },
      record: () => {
        const sums = program.intermediate('column_sums', [columns]);
        columnSums(program, x, sums);
        return [sums];
      },
      check: ([sums]) => {
        const expected = new Float64Array(columns);
        for (let i = 0; i < data.length; i++) expected[i % columns] += data[i];
        return [compare('sums', sums, expected)];
      },
    };
  });
}

/** Every second row, backwards. */
function gatherRowsCase(rows: number, columns: number, { storage, mark }: Stored): BenchCase {
  const kept = Uint32Array.from({ length: rows >> 1 }, (_, r) => rows - 1 - 2 * r);
  return operatorCase(`gather_rows${mark}`, `${kept.length} of ${rows} × ${columns}`, (program) => {
    const x = program.input('x', [rows, columns], storage);
    const index = program.input('index', [kept.length], 'u32');
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(x.elements, 1, storage);
        program.write(x, data);
        program.write(index, kept);
      },
      record: () => [gatherRows(new Graph(program, storage), x, index)],
      check: ([gathered]) => [
        compareSamples(
          'rows',
          gathered,
          (place) => data[kept[Math.floor(place / columns)] * columns + (place % columns)],
        ),
      ],
    };
  });
}

function tokenMeansCase(
  count: number,
  length: number,
  first: number,
  columns: number,
  { storage, mark }: Stored,
): BenchCase {
  return operatorCase(`token_means${mark}`, `${count} × ${length}, ${columns}`, (program) => {
    const x = program.input('x', [count * length, columns], storage);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(x.elements, 1, storage);
        program.write(x, data);
      },
      record: () => [tokenMeans(new Graph(program, storage), x, { count, length }, first)],
      check: ([means]) => [
        compareSamples('means', means, (place) => {
          const [sequence, column] = [Math.floor(place / columns), place % columns];
          let sum = 0;
          for (let t = first; t < length; t++) sum += data[(sequence * length + t) * columns + column];
          return sum / (length - first);
        }),
      ],
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const batch = software ? 1 : 32;
  const tokens = (2 * 257 + 8 * 50) * batch;
  return [
    ...STORAGES.flatMap((stored) => [
      patchifyCase(2 * batch, 224, 14, stored),
      patchifyCase(3, 98, 14, stored),
      padColumnsCase(384, 7, stored),
      copyAndAddCase(tokens, 384, stored),
      columnSumsCase(tokens, 1536, stored),
      columnSumsCase(257, 260, stored),
      tokenMeansCase(2 * batch, 261, 5, 384, stored),
      gatherRowsCase(tokens, 384, stored),
    ]),
    ...packTokensCases(batch, 256, 49, 4, 384),
    ...resampleCases(16, 7, 7, 384),
    ...resampleCases(5, 7, 6, 50),
    ...residualCases(tokens, 384),
    ...swigluCases(tokens, 1024),
    ...swigluCases(257, 52),
    layerScaleGradientCase(384, 1536),
    ...STORAGES.map((stored) => geluCase(tokens, 1536, stored)),
  ];
}

export const section: BenchSection = { name: 'tokens', question: 'How fast is what moves tokens?', cases };
