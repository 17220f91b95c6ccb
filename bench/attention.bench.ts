/** How fast is attention inside packed sequences: both passes, both storages, over ViT-S crops and odd lengths. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { TypedData } from '../src/gpu/tensor.js';
import { type AttentionFamily, attention } from '../src/tensor/attention.js';
import { clsAttention } from '../src/tensor/cls_attention.js';
import { Graph } from '../src/tensor/graph.js';
import { type PackedSequences, totalRows } from '../src/tensor/sequences.js';
import * as oracle from '../test/oracle/attention.js';
import * as clsOracle from '../test/oracle/cls_attention.js';
import { type BenchCase, type BenchSection, operatorCase, WITH_BACKWARD } from './checked_bench.js';
import { type Comparison, compare, compareSlope, GRADIENT_BOUND, HALF_BOUND } from './comparison.js';
import { storedNoise, STORAGES, type Stored } from './storages.js';

interface Packing {
  readonly sequences: PackedSequences;
  readonly heads: number;
  readonly headDim: number;
}

/** First and last sequence, as [first row, rows]. Sequences do not see each other: the two stand for all. */
function sampledSequences(sequences: PackedSequences): [number, number][] {
  const last = sequences[sequences.length - 1].length;
  const rows = totalRows(sequences);
  const first = sequences[0].length;
  return rows === first
    ? [[0, first]]
    : [
        [0, first],
        [rows - last, last],
      ];
}

/** The rows of the sampled sequences, one behind the other. */
function sampledRows(matrix: TypedData, columns: number, sequences: PackedSequences): Float64Array {
  return Float64Array.from(
    sampledSequences(sequences).flatMap(([first, rows]) => [
      ...matrix.subarray(first * columns, (first + rows) * columns),
    ]),
  );
}

function attentionCase(
  { sequences, heads, headDim }: Packing,
  { storage, mark, bound }: Stored,
  backward: boolean,
  family?: AttentionFamily,
): BenchCase {
  const rows = totalRows(sequences);
  const width = heads * headDim;
  const packed = sequences.map(({ count, length }) => `${count} × ${length}`).join(' + ');
  const operator = `attention${family ? `, ${family}` : ''}${mark}${backward ? WITH_BACKWARD : ''}`;
  return operatorCase(operator, `${packed}, ${heads} heads of ${headDim}`, (program) => {
    const qkv = program.input('qkv', [rows, 3 * width], storage);
    qkv.requiresGrad = backward;
    const upstream = backward ? program.input('upstream', [rows, width], storage) : undefined;
    let data: Float32Array = new Float32Array();
    let seed: Float32Array = new Float32Array();
    return {
      prepare: () => {
        // Scores of about ±3: a softmax that is neither uniform nor a single one.
        data = storedNoise(qkv.elements, 1, storage).map((v) => 2 * v);
        seed = storedNoise(rows * width, 2, storage);
        program.write(qkv, data);
        if (upstream) program.write(upstream, seed);
      },
      record: () => {
        const graph = new Graph(program, storage);
        const out = attention(graph, qkv, heads, sequences, family);
        if (!upstream) return [out];
        graph.backward([[out, upstream]]);
        const gradient = graph.gradientOf(qkv);
        return gradient ? [out, gradient] : [out];
      },
      check: ([out, gradient]) => {
        const sampled = sampledSequences(sequences).map(([, length]) => ({ count: 1, length }));
        const exact = sampledRows(data, 3 * width, sequences);
        const expected = oracle.attention(exact, heads, headDim, sampled).out;
        const comparisons: Comparison[] = [compare('forward', sampledRows(out, width, sequences), expected, bound)];
        if (upstream) {
          const seeds = sampledRows(seed, width, sequences);
          const value = (): number =>
            oracle.attention(exact, heads, headDim, sampled).out.reduce((sum, v, i) => sum + v * seeds[i], 0);
          const slopes = sampledRows(gradient, 3 * width, sequences);
          const slopeBound = storage === 'f16' ? HALF_BOUND : GRADIENT_BOUND;
          comparisons.push(compareSlope('gradient of qkv', slopes, exact, value, slopeBound));
        }
        return comparisons;
      },
    };
  });
}

/** The one row of weights that pictures of attention show. */
function clsAttentionCase(
  count: number,
  length: number,
  { heads, headDim }: Packing,
  { storage, mark }: Stored,
): BenchCase {
  return operatorCase(`cls_attention${mark}`, `${count} × ${length}, ${heads} heads of ${headDim}`, (program) => {
    const qkv = program.input('qkv', [count * length, 3 * heads * headDim], storage);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(qkv.elements, 1, storage).map((v) => 2 * v);
        program.write(qkv, data);
      },
      record: () => [clsAttention(new Graph(program, storage), qkv, heads, [{ count, length }])],
      check: ([weights]) => [
        // The first sequence stands for all.
        compare(
          'weights',
          weights.subarray(0, heads * length),
          clsOracle.clsAttention(data.subarray(0, length * qkv.columns), heads, headDim, 1, length),
        ),
      ],
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const batch = software ? 1 : 64;
  // ViT-S/14: the teacher's global crops of 224 px, then the student's with eight local ones of 98 px.
  const teacher: Packing = { sequences: [{ count: 2 * batch, length: 257 }], heads: 6, headDim: 64 };
  const student = { ...teacher, sequences: [...teacher.sequences, { count: 8 * batch, length: 50 }] };
  const odd: Packing = {
    sequences: [
      { count: 3, length: 261 },
      { count: 5, length: 1 },
      { count: 2, length: 17 },
    ],
    heads: 3,
    headDim: 32,
  };
  // ViT-L, which the targets are given for.
  const large: Packing[] = software ? [] : [{ sequences: [{ count: 64, length: 257 }], heads: 16, headDim: 64 }];
  const fastest = [teacher, student, odd, ...large].flatMap((packing) =>
    STORAGES.flatMap((stored) => [attentionCase(packing, stored, false), attentionCase(packing, stored, true)]),
  );
  // The kernels that any adapter takes, beside the family that this one gets.
  const tiled = STORAGES.map((stored) => attentionCase(teacher, stored, true, 'tiled'));
  const cls = STORAGES.map((stored) => clsAttentionCase(2 * batch, 257, teacher, stored));
  return [...fastest, ...tiled, ...cls];
}

export const section: BenchSection = {
  name: 'attention',
  question: 'How fast is attention over packed sequences?',
  cases,
};
