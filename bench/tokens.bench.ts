/** How fast is what moves tokens: from pixels to packed sequences and back, residuals, activations, sums of columns. */

import * as addInPlace from '../kernels/add_in_place.js';
import * as copyRows from '../kernels/copy_rows.js';
import * as patchify from '../kernels/patchify.js';
import * as resizeColumns from '../kernels/resize_columns.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { Graph } from '../src/tensor/graph.js';
import { columnSums } from '../src/tensor/linear.js';
import { resizePosition } from '../src/tensor/position.js';
import { scaledResidual } from '../src/tensor/residual.js';
import { NO_ROW } from '../src/tensor/rows.js';
import { swiglu } from '../src/tensor/swiglu.js';
import { tokenMeans } from '../src/tensor/token_means.js';
import { packTokens } from '../src/tensor/tokens.js';
import { noise } from '../test/fixture.js';
import { inverse } from '../test/oracle/row_subsets.js';
import * as oracle from '../test/oracle/tokens.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare, compareSamples } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';

/** Means and deviations of ImageNet's channels (spec §3.4). */
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

function patchifyCase(count: number, side: number, patch: number): BenchCase {
  return operatorCase('patchify of bytes', `${count} × ${side} px, patch ${patch}`, (program) => {
    const across = side / patch;
    const columns = 3 * patch * patch;
    const bytes = new Uint8Array(Math.ceil((count * side * side * 3) / 4) * 4);
    const pixels = program.input('pixels', [bytes.length / 4], 'u32');
    return {
      prepare: () => {
        for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + (i >> 3)) % 256;
        program.write(pixels, bytes);
      },
      record: () => {
        const out = program.intermediate('patches', [count * across * across, columns]);
        const plan = patchify.plan({ count, height: side, width: side, patch, bytes: true, firstRow: 0 });
        program.dispatch(plan, [pixels, out]);
        return [out];
      },
      check: ([out]) => [
        compareSamples('patches', out, (place) => {
          const [row, column] = [Math.floor(place / columns), place % columns];
          const [image, at] = [Math.floor(row / across ** 2), row % across ** 2];
          const [channel, inside] = [Math.floor(column / patch ** 2), column % patch ** 2];
          const y = Math.floor(at / across) * patch + Math.floor(inside / patch);
          const x = (at % across) * patch + (inside % patch);
          return (bytes[((image * side + y) * side + x) * 3 + channel] / 255 - MEAN[channel]) / STD[channel];
        }),
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
      cls: { shape: [1, 1, D] },
      registers: { shape: [1, registers, D] },
      mask: { shape: [1, D] },
      position: { shape: [1 + patches, D] },
      localPosition: { shape: [1 + localPatches, D] },
    },
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
    inputs: { x: { shape: [rows, D] }, branch: { shape: [rows, D] }, gamma: { shape: [D] } },
    build: (graph, { x, branch, gamma }) => scaledResidual(graph, x, branch, gamma),
    oracle: ({ x, branch, gamma }) => x.map((v, i) => v + gamma[i % D] * branch[i]),
  });
  const kept = Uint32Array.from({ length: Math.floor((2 * rows) / 3) }, (_, r) => rows - 1 - Math.floor(1.5 * r));
  const where = inverse(kept, rows);
  const factor = 1.5;
  const subset = forwardAndBackward({
    operator: 'scaled_residual of kept rows',
    shape: `${kept.length} of ${rows} × ${D}`,
    inputs: { x: { shape: [rows, D] }, branch: { shape: [kept.length, D] }, gamma: { shape: [D] } },
    tables: {
      index: { shape: [kept.length], data: kept },
      inverse: { shape: [rows], data: where },
      scale: { shape: [kept.length], data: new Float32Array(kept.length).fill(factor) },
    },
    build: (graph, { x, branch, gamma, index, inverse: back, scale }) =>
      scaledResidual(graph, x, branch, gamma, { subset: { index, inverse: back }, scale }),
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
    build: (graph, { x }) => swiglu(graph, x),
    oracle: ({ x }) => oracle.swiglu(x, hidden),
  });
}

/** A gradient that two operators contribute to: a copy, then a sum in place. */
function copyAndAddCase(rows: number, columns: number): BenchCase {
  return operatorCase('copy_rows, then add_in_place', `${rows} × ${columns}`, (program) => {
    const [source, value] = [program.input('source', [rows, columns]), program.input('value', [rows, columns])];
    let data: Float32Array[] = [];
    return {
      prepare: () => {
        data = [noise(source.elements, 1), noise(value.elements, 2)];
        program.write(source, data[0]);
        program.write(value, data[1]);
      },
      record: () => {
        const sum = program.intermediate('sum', [rows, columns]);
        program.dispatch(copyRows.plan({ rows, columns, from: 0, to: 0 }), [source, sum]);
        program.dispatch(addInPlace.plan({ elements: rows * columns }), [sum, value]);
        return [sum];
      },
      check: ([sum]) => [
        compare(
          'sum',
          sum,
          Float64Array.from(data[0], (v, i) => v + data[1][i]),
        ),
      ],
    };
  });
}

/** The patch weights of an odd patch size, padded with zeros to whole vectors. */
function padColumnsCase(rows: number, from: number, to: number): BenchCase {
  return operatorCase('resize_columns', `${rows} × ${from} to ${to}`, (program) => {
    const x = program.input('x', [rows, from]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(x.elements, 1);
        program.write(x, data);
      },
      record: () => {
        const padded = program.intermediate('padded', [rows, to]);
        program.dispatch(resizeColumns.plan({ rows, from, to }), [x, padded]);
        return [padded];
      },
      check: ([padded]) => [
        compare(
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

function columnSumsCase(rows: number, columns: number): BenchCase {
  return operatorCase('column sums (bias gradient)', `${rows} × ${columns}`, (program) => {
    const x = program.input('x', [rows, columns]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(x.elements, 1);
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

function tokenMeansCase(count: number, length: number, first: number, columns: number): BenchCase {
  return operatorCase('token_means', `${count} × ${length}, ${columns}`, (program) => {
    const x = program.input('x', [count * length, columns]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(x.elements, 1);
        program.write(x, data);
      },
      record: () => [tokenMeans(new Graph(program), x, { count, length }, first)],
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
    patchifyCase(2 * batch, 224, 14),
    patchifyCase(3, 98, 14),
    padColumnsCase(384, 147, 148),
    ...packTokensCases(batch, 256, 49, 4, 384),
    ...resampleCases(16, 7, 7, 384),
    ...resampleCases(5, 7, 6, 50),
    ...residualCases(tokens, 384),
    ...swigluCases(tokens, 1024),
    ...swigluCases(257, 50),
    copyAndAddCase(tokens, 384),
    columnSumsCase(tokens, 1536),
    columnSumsCase(257, 261),
    tokenMeansCase(2 * batch, 261, 5, 384),
  ];
}

export const section: BenchSection = { name: 'tokens', question: 'How fast is what moves tokens?', cases };
