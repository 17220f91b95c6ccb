/** How fast is attention inside packed sequences: forward, and forward with backward, over ViT-S crops and odd lengths. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { TypedData } from '../src/gpu/tensor.js';
import { attention } from '../src/tensor/attention.js';
import { Graph } from '../src/tensor/graph.js';
import { type PackedSequences, totalRows } from '../src/tensor/sequences.js';
import { noise } from '../test/fixture.js';
import * as oracle from '../test/oracle/attention.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { type Comparison, compare, compareSlope } from './comparison.js';

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

function attentionCase({ sequences, heads, headDim }: Packing, backward: boolean): BenchCase {
  const rows = totalRows(sequences);
  const width = heads * headDim;
  const shape = `${sequences.map(({ count, length }) => `${count} × ${length}`).join(' + ')}, ${heads} heads of ${headDim}`;
  return operatorCase(backward ? 'attention + backward' : 'attention', shape, (program) => {
    const qkv = program.input('qkv', [rows, 3 * width]);
    qkv.requiresGrad = backward;
    const upstream = backward ? program.input('upstream', [rows, width]) : undefined;
    let data: Float32Array = new Float32Array();
    let seed: Float32Array = new Float32Array();
    return {
      prepare: () => {
        // Scores of about ±3: a softmax that is neither uniform nor a single one.
        data = noise(qkv.elements, 1).map((v) => 2 * v);
        seed = noise(rows * width, 2);
        program.write(qkv, data);
        if (upstream) program.write(upstream, seed);
      },
      record: () => {
        const graph = new Graph(program);
        const out = attention(graph, qkv, heads, sequences);
        if (!upstream) return [out];
        graph.backward([[out, upstream]]);
        const gradient = graph.gradientOf(qkv);
        return gradient ? [out, gradient] : [out];
      },
      check: ([out, gradient]) => {
        const sampled = sampledSequences(sequences).map(([, length]) => ({ count: 1, length }));
        const exact = sampledRows(data, 3 * width, sequences);
        const expected = oracle.attention(exact, heads, headDim, sampled).out;
        const comparisons: Comparison[] = [compare('forward', sampledRows(out, width, sequences), expected)];
        if (upstream) {
          const seeds = sampledRows(seed, width, sequences);
          const value = (): number =>
            oracle.attention(exact, heads, headDim, sampled).out.reduce((sum, v, i) => sum + v * seeds[i], 0);
          comparisons.push(compareSlope('gradient of qkv', sampledRows(gradient, 3 * width, sequences), exact, value));
        }
        return comparisons;
      },
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const batch = software ? 1 : 64;
  const packings: Packing[] = [
    // ViT-S/14: the teacher's global crops of 224 px, then the student's with eight local ones of 98 px.
    { sequences: [{ count: 2 * batch, length: 257 }], heads: 6, headDim: 64 },
    {
      sequences: [
        { count: 2 * batch, length: 257 },
        { count: 8 * batch, length: 50 },
      ],
      heads: 6,
      headDim: 64,
    },
    {
      sequences: [
        { count: 3, length: 261 },
        { count: 5, length: 1 },
        { count: 2, length: 17 },
      ],
      heads: 3,
      headDim: 32,
    },
  ];
  return packings.flatMap((packing) => [attentionCase(packing, false), attentionCase(packing, true)]);
}

export const section: BenchSection = {
  name: 'attention',
  question: 'How fast is attention over packed sequences?',
  cases,
};
