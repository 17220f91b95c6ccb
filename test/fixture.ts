/** One GPU for a test file, comparison against oracles, and the checks that every operator must pass. */

import type { Test } from 'tape';
import { BASELINE_CAPABILITIES, type Capabilities } from '../src/gpu/capabilities.js';
import { Program } from '../src/gpu/program.js';
import type { Gpu } from '../src/gpu/device.js';
import { fromHalf, toHalf } from '../src/gpu/half.js';
import type { Storage, Tensor } from '../src/gpu/tensor.js';
import { openGpu } from '../src/node.js';
import { Graph } from '../src/tensor/graph.js';

let shared: Promise<Gpu> | undefined;

/** The adapter under test, opened once per process; `WEBDINO_ADAPTER` chooses it. */
export function testGpu(): Promise<Gpu> {
  shared ??= openGpu();
  return shared;
}

/** What a GPU with tensor cores reports, for plans: an NVIDIA one through Vulkan. */
export const TENSOR_CORES: Capabilities = {
  ...BASELINE_CAPABILITIES,
  shaderF16: true,
  subgroups: true,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  maxWorkgroupMemoryBytes: 49152,
  maxInvocationsPerWorkgroup: 1024,
  subgroupMatrices: [
    { componentType: 'f16', resultComponentType: 'f16', M: 16, N: 16, K: 16 },
    { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 8, K: 8 },
    { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 },
    { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 8, K: 16 },
    { componentType: 'u8', resultComponentType: 'u32', M: 16, N: 16, K: 32 },
  ],
};

/** The same adapter under that description: to record what such a GPU would run, not to run it. */
export function plannedWithMatrices(gpu: Gpu): Gpu {
  return Object.create(gpu, { capabilities: { value: TENSOR_CORES } }) as Gpu;
}

/** The same adapter, planned for as if it were hardware: the variants a real GPU gets, run on the CPU. */
export function plannedAsHardware(gpu: Gpu): Gpu {
  return Object.create(gpu, { capabilities: { value: { ...gpu.capabilities, software: false } } }) as Gpu;
}

/** Deterministic numbers in [-1, 1). */
export function noise(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    let h = state;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return ((h ^ (h >>> 16)) >>> 8) / 2 ** 23 - 1;
  });
}

export interface Tolerance {
  readonly absolute?: number;
  readonly relative?: number;
}

/** |actual - expected| <= absolute + relative * max|expected|; on failure names the worst element. */
export function allClose(
  t: Test,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  message: string,
  { absolute = 1e-5, relative = 1e-5 }: Tolerance = {},
): void {
  if (actual.length !== expected.length) {
    t.fail(`${message}: ${actual.length} values, expected ${expected.length}`);
    return;
  }
  let largest = 0;
  let worst = 0;
  let worstError = -1;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]));
    const difference = Math.abs(actual[i] - expected[i]);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worstError) {
      worstError = error;
      worst = i;
    }
  }
  const bound = absolute + relative * largest;
  t.ok(
    worstError <= bound,
    `${message} (error ${worstError.toExponential(1)}, bound ${bound.toExponential(1)}${
      worstError <= bound ? '' : `, at ${worst}: ${actual[worst]} instead of ${expected[worst]}`
    })`,
  );
}

export function sameBits(t: Test, a: ArrayBufferView, b: ArrayBufferView, message: string): void {
  const x = Buffer.from(a.buffer, a.byteOffset, a.byteLength);
  const y = Buffer.from(b.buffer, b.byteOffset, b.byteLength);
  t.ok(x.equals(y), message);
}

export interface OperatorInput {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** Without this, an input's gradient is checked. */
  readonly constant?: boolean;
  /** A weight: float32 with float32 gradient also where activations are half, with a half copy beside it. */
  readonly weight?: boolean;
}

export interface OperatorCase {
  readonly name: string;
  readonly inputs: Readonly<Record<string, OperatorInput>>;
  /**
   * Records the operator; the tensors are inputs of the program. `upstream` makes the gradient that will reach the result,
   * float32, for operators that need it in their forward pass.
   */
  readonly build: (graph: Graph, inputs: Readonly<Record<string, Tensor>>, upstream: () => Tensor) => Tensor;
  /** The same in float64. */
  readonly oracle: (inputs: Readonly<Record<string, Float64Array>>) => ArrayLike<number>;
  readonly forward?: Tolerance;
  readonly gradient?: Tolerance;
  /** Also checks the variants that the plans choose for hardware, where the adapter under test runs on the CPU. */
  readonly hardwareToo?: boolean;
  /**
   * Also checks with half activations: inputs that are no weights are halves, and so are results and their gradients.
   * Tolerances default to a few roundings of a half.
   */
  readonly half?: boolean | { readonly forward?: Tolerance; readonly gradient?: Tolerance };
  /** Step of the central differences, for oracles with kinks or large third derivatives. */
  readonly step?: number;
}

/**
 * Checks one operator: its result against the oracle; each input's gradient, with a random upstream gradient and with a
 * gradient that reached the input by another way (the middle of a graph), against central differences of the oracle;
 * nothing written past a tensor's end, nothing read that nobody wrote; and the same bits on a second run.
 */
export async function checkOperator(t: Test, operator: OperatorCase): Promise<void> {
  const adapter = await testGpu();
  const adapters: [Gpu, string][] = [[adapter, operator.name]];
  if (operator.hardwareToo && adapter.capabilities.software) {
    adapters.push([plannedAsHardware(adapter), `${operator.name}, as on hardware`]);
  }
  for (const [gpu, name] of adapters) {
    await checkOn(t, operator, gpu, name, 'f32');
    if (operator.half) await checkOn(t, operator, gpu, `${name}, in halves`, 'f16');
  }
}

const HALF_TOLERANCE = { absolute: 1e-3, relative: 2e-3 };

async function checkOn(t: Test, operator: OperatorCase, gpu: Gpu, name: string, storage: Storage): Promise<void> {
  const halves = storage === 'f16';
  const rounded = (data: Float32Array): Float32Array => (halves ? fromHalf(toHalf(data)).slice(0, data.length) : data);
  const tolerances = halves
    ? { forward: HALF_TOLERANCE, gradient: HALF_TOLERANCE, ...(typeof operator.half === 'object' ? operator.half : {}) }
    : { forward: operator.forward, gradient: operator.gradient ?? { absolute: 1e-4, relative: 1e-4 } };
  const exact = Object.fromEntries(
    Object.entries(operator.inputs).map(([key, input]) => [key, Float64Array.from(rounded(input.data))]),
  );
  const expected = Float64Array.from(operator.oracle(exact));
  const seed = rounded(noise(expected.length, 977));
  const followed = Object.keys(operator.inputs).filter((key) => !operator.inputs[key].constant);

  for (const middle of [false, true]) {
    const program = new Program(gpu, name);
    const graph = new Graph(program, storage);
    const tensors: Record<string, Tensor> = {};
    for (const [key, input] of Object.entries(operator.inputs)) {
      tensors[key] = program.input(key, input.shape, input.weight ? 'f32' : storage);
      tensors[key].requiresGrad = !input.constant;
      program.write(tensors[key], rounded(input.data));
      if (input.weight && halves) {
        tensors[key].half = program.input(`${key} in halves`, input.shape, 'f16');
        program.write(tensors[key].half, input.data);
      }
    }
    let early: Tensor | undefined;
    const upstream = (): Tensor => (early ??= program.input('seed', [expected.length]));
    const output = program.keep(operator.build(graph, tensors, upstream));
    const seedTensor = early ?? program.input('seed', output.shape, output.gradientDtype);
    program.write(seedTensor, seed);
    const extra = middle ? followed.map((key, i) => rounded(noise(operator.inputs[key].data.length, 31 + i))) : [];
    graph.backward([
      [output, seedTensor],
      ...extra.map((data, i): [Tensor, Tensor] => {
        const key = followed[i];
        // Written by a kernel-visible copy, since the tape may add into it.
        const other = program.input(`other ${key}`, operator.inputs[key].shape, tensors[key].dtype);
        program.write(other, data);
        return [tensors[key], other];
      }),
    ]);
    const gradients = followed.map((key) => {
      const gradient = graph.gradientOf(tensors[key]);
      if (!gradient) throw new Error(`${name}: no gradient reached ${key}`);
      return gradient.kind === 'intermediate' ? program.keep(gradient) : gradient;
    });
    await program.compile({ guard: true });
    const rewrite = (): void => {
      for (const [i, data] of extra.entries()) program.write(`other ${followed[i]}`, data);
    };
    rewrite();
    program.run();
    const [first, ...firstGradients] = await program.readAll([output, ...gradients]);
    rewrite();
    program.run();
    const [second, ...secondGradients] = await program.readAll([output, ...gradients]);
    const where = middle ? `${name}, mid-graph` : name;
    if (!middle) allClose(t, first, expected, `${name}: forward`, tolerances.forward);
    sameBits(t, first, second, `${where}: forward has the same bits twice`);
    t.deepEqual(await program.checkGuards(), [], `${where}: nothing written past a tensor`);
    followed.forEach((key, k) => {
      sameBits(t, firstGradients[k], secondGradients[k], `${where}: gradient of ${key} has the same bits twice`);
      const { at, values } = differences(operator, exact, key, seed);
      const plus = extra[k];
      allClose(
        t,
        at.map((i) => firstGradients[k][i]),
        values.map((value, j) => value + (plus ? plus[at[j]] : 0)),
        `${where}: gradient of ${key}`,
        tolerances.gradient,
      );
    });
    program.dispose();
  }
}

/** Central differences of sum(seed * oracle) at up to 48 elements of one input. */
function differences(
  operator: OperatorCase,
  exact: Record<string, Float64Array>,
  key: string,
  seed: Float32Array,
): { at: number[]; values: number[] } {
  const data = exact[key];
  const count = Math.min(data.length, 48);
  const at = Array.from(
    { length: count },
    (_, j) => Math.floor((j * data.length) / count + ((j * 7) % 3)) % data.length,
  );
  const h = operator.step ?? 1e-5;
  const value = (): number => {
    const result = operator.oracle(exact);
    let sum = 0;
    for (let i = 0; i < seed.length; i++) sum += seed[i] * result[i];
    return sum;
  };
  const values = at.map((i) => {
    const before = data[i];
    data[i] = before + h;
    const plus = value();
    data[i] = before - h;
    const minus = value();
    data[i] = before;
    return (plus - minus) / (2 * h);
  });
  return { at, values };
}
