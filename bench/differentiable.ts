/** Cases of an operator with a gradient: the forward pass alone, and forward with backward, in float32 and in halves. */

import { fromHalf, toHalf } from '../src/gpu/half.js';
import type { Storage, Tensor, TypedData } from '../src/gpu/tensor.js';
import { Graph } from '../src/tensor/graph.js';
import { noise } from '../test/fixture.js';
import { type BenchCase, operatorCase, WITH_BACKWARD } from './checked_bench.js';
import { type Comparison, compare, compareSlope, HALF_BOUND } from './comparison.js';

export interface BenchInput {
  readonly shape: readonly number[];
  /** Random numbers in [-1, 1) without it. */
  readonly data?: () => Float32Array;
  /** Without this, an input's gradient is computed and checked. */
  readonly constant?: boolean;
  /** A weight: float32 also where activations are halves, with a half copy beside it. */
  readonly weight?: boolean;
}

export interface DifferentiableBench {
  readonly operator: string;
  readonly shape: string;
  readonly inputs: Readonly<Record<string, BenchInput>>;
  /** Tables that the operator reads beside its inputs: indices, masks, scales. */
  readonly tables?: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: TypedData }>>;
  /** @param upstream the float32 gradient that will reach the result, for operators that need it in their forward pass */
  readonly build: (
    graph: Graph,
    tensors: Readonly<Record<string, Tensor>>,
    upstream: (shape: readonly number[]) => Tensor,
  ) => Tensor;
  /** The same in float64. */
  readonly oracle: (inputs: Readonly<Record<string, Float64Array>>) => ArrayLike<number>;
  readonly forwardBound?: number;
  readonly gradientBound?: number;
  /** Also with half activations: inputs that are no weights are halves, and so are results and their gradients. */
  readonly half?: boolean;
}

const SEED = 977;

/** A slope averages the roundings of halves; what is left comes from results that the backward pass reads as halves. */
const HALF_GRADIENT_BOUND = 2e-3;

function differentiableCase(bench: DifferentiableBench, backward: boolean, storage: Storage): BenchCase {
  const halves = storage === 'f16';
  const named = halves ? `${bench.operator} (f16)` : bench.operator;
  const operator = backward ? named + WITH_BACKWARD : named;
  const rounded = (data: Float32Array): Float32Array => (halves ? fromHalf(toHalf(data)).slice(0, data.length) : data);
  const forwardBound = halves ? HALF_BOUND : bench.forwardBound;
  const gradientBound = halves ? HALF_GRADIENT_BOUND : bench.gradientBound;
  return operatorCase(operator, bench.shape, (program) => {
    const tensors: Record<string, Tensor> = {};
    const followed: string[] = [];
    for (const [name, { shape, constant = false, weight = false }] of Object.entries(bench.inputs)) {
      tensors[name] = program.input(name, shape, weight ? 'f32' : storage);
      if (weight && halves) tensors[name].half = program.input(`${name} in halves`, shape, 'f16');
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
          const values = rounded(data ? data() : noise(tensors[name].elements, i + 1));
          exact[name] = Float64Array.from(values);
          program.write(tensors[name], values);
          const { half } = tensors[name];
          if (half) program.write(half, values);
        });
        if (upstream) program.write(upstream, rounded(noise(upstream.elements, SEED)));
      },
      record: () => {
        const graph = new Graph(program, storage);
        output = bench.build(graph, tensors, (shape) => (upstream ??= program.input('upstream', shape)));
        if (!backward) return [output];
        upstream ??= program.input('upstream', output.shape, output.gradientDtype);
        graph.backward([[output, upstream]]);
        const gradients = followed.map((name) => {
          const gradient = graph.gradientOf(tensors[name]);
          if (!gradient) throw new Error(`${operator}: no gradient reached ${name}`);
          return gradient;
        });
        return [output, ...gradients];
      },
      check: ([result, ...gradients]) => {
        const comparisons: Comparison[] = [compare('forward', result, bench.oracle(exact), forwardBound)];
        const seed = rounded(noise(result.length, SEED));
        const value = (): number => {
          const at = bench.oracle(exact);
          let sum = 0;
          for (let i = 0; i < seed.length; i++) sum += seed[i] * at[i];
          return sum;
        };
        followed.forEach((name, k) => {
          comparisons.push(compareSlope(`gradient of ${name}`, gradients[k], exact[name], value, gradientBound));
        });
        return comparisons;
      },
    };
  });
}

export function forwardAndBackward(bench: DifferentiableBench): BenchCase[] {
  const storages: Storage[] = bench.half ? ['f32', 'f16'] : ['f32'];
  return storages.flatMap((storage) => [
    differentiableCase(bench, false, storage),
    differentiableCase(bench, true, storage),
  ]);
}
