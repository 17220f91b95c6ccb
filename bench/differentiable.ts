/** Cases of an operator with a gradient: the forward pass alone, and forward with backward. */

import type { Tensor, TypedData } from '../src/gpu/tensor.js';
import { Graph } from '../src/tensor/graph.js';
import { noise } from '../test/fixture.js';
import { type BenchCase, operatorCase } from './checked_bench.js';
import { type Comparison, compare, compareSlope } from './comparison.js';

export interface BenchInput {
  readonly shape: readonly number[];
  /** Random numbers in [-1, 1) without it. */
  readonly data?: () => Float32Array;
  /** Without this, an input's gradient is computed and checked. */
  readonly constant?: boolean;
}

export interface DifferentiableBench {
  readonly operator: string;
  readonly shape: string;
  readonly inputs: Readonly<Record<string, BenchInput>>;
  /** Tables that the operator reads beside its inputs: indices, masks, scales. */
  readonly tables?: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: TypedData }>>;
  readonly build: (graph: Graph, tensors: Readonly<Record<string, Tensor>>) => Tensor;
  /** The same in float64. */
  readonly oracle: (inputs: Readonly<Record<string, Float64Array>>) => ArrayLike<number>;
  readonly forwardBound?: number;
  readonly gradientBound?: number;
}

const SEED = 977;

function differentiableCase(bench: DifferentiableBench, backward: boolean): BenchCase {
  const operator = backward ? `${bench.operator} + backward` : bench.operator;
  return operatorCase(operator, bench.shape, (program) => {
    const tensors: Record<string, Tensor> = {};
    const followed: string[] = [];
    for (const [name, { shape, constant = false }] of Object.entries(bench.inputs)) {
      tensors[name] = program.input(name, shape);
      tensors[name].requiresGrad = backward && !constant;
      if (tensors[name].requiresGrad) followed.push(name);
    }
    for (const [name, { shape, data }] of Object.entries(bench.tables ?? {})) {
      tensors[name] = program.constant(name, shape, data);
    }
    const exact: Record<string, Float64Array> = {};
    let upstream: Tensor | undefined;
    let output: Tensor;
    return {
      prepare: () => {
        Object.entries(bench.inputs).forEach(([name, { data }], i) => {
          const values = data ? data() : noise(tensors[name].elements, i + 1);
          exact[name] = Float64Array.from(values);
          program.write(tensors[name], values);
        });
        if (upstream) program.write(upstream, noise(upstream.elements, SEED));
      },
      record: () => {
        const graph = new Graph(program);
        output = bench.build(graph, tensors);
        if (!backward) return [output];
        upstream ??= program.input('upstream', output.shape);
        graph.backward([[output, upstream]]);
        const gradients = followed.map((name) => {
          const gradient = graph.gradientOf(tensors[name]);
          if (!gradient) throw new Error(`${operator}: no gradient reached ${name}`);
          return gradient;
        });
        return [output, ...gradients];
      },
      check: ([result, ...gradients]) => {
        const comparisons: Comparison[] = [compare('forward', result, bench.oracle(exact), bench.forwardBound)];
        const seed = noise(result.length, SEED);
        const value = (): number => {
          const at = bench.oracle(exact);
          let sum = 0;
          for (let i = 0; i < seed.length; i++) sum += seed[i] * at[i];
          return sum;
        };
        followed.forEach((name, k) => {
          comparisons.push(compareSlope(`gradient of ${name}`, gradients[k], exact[name], value, bench.gradientBound));
        });
        return comparisons;
      },
    };
  });
}

export function forwardAndBackward(bench: DifferentiableBench): BenchCase[] {
  return [differentiableCase(bench, false), differentiableCase(bench, true)];
}
