/**
 * How fast is a matrix product: three layouts, both variants, the fused epilogues, split-K, a whole MLP with its gradients;
 * and what a plain loop and gpu.js need for the same product.
 */

import { create } from 'webgpu';
import { GPU, type IKernelFunctionThis } from 'gpu.js';
import * as gemm from '../kernels/gemm.js';
import * as sumPartials from '../kernels/sum_partials.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { Program } from '../src/gpu/program.js';
import { mlp } from '../src/tensor/linear.js';
import { noise } from '../test/fixture.js';
import * as oracle from '../test/oracle/linear.js';
import { type BenchCase, type BenchSection, operatorCase, type OpenPeer, type PeerGroup } from './checked_bench.js';
import { compareSamples, FORWARD_BOUND } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';

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

function gemmCase(params: gemm.GemmParams, capabilities: Capabilities): BenchCase {
  const { layout, M, N, K, bias = false, epilogue = 'none', parts = 1 } = params;
  const variant = gemm.plan(params, capabilities).shader.replace('.wgsl', '');
  const fused = [
    bias ? ' + bias' : '',
    epilogue === 'none' ? '' : ` + ${epilogue}`,
    parts > 1 ? `, K in ${parts} parts` : '',
  ];
  return operatorCase(`gemm ${layout}${fused.join('')} (${variant})`, `${M} × ${N} × ${K}`, (program) => {
    const a = program.input('a', layout === 'TN' ? [K, M] : [M, K]);
    const b = program.input('b', layout === 'NT' ? [N, K] : [K, N]);
    const biasVector = program.input('bias', [N]);
    const extra = program.input('extra', [M, N]);
    const gamma = program.input('gamma', [N]);
    const keepsInput = epilogue === 'geluKeep';
    let data: Float32Array[] = [];
    return {
      prepare: () => {
        const inputs = [a, b, biasVector, extra, gamma];
        data = inputs.map(({ elements }, i) => noise(elements, i + 1));
        for (const [i, input] of inputs.entries()) program.write(input, data[i]);
      },
      record: () => {
        const out = program.intermediate('product', parts > 1 ? [parts, M, N] : [M, N]);
        const kept = keepsInput ? [program.intermediate('kept', [M, N])] : [];
        program.dispatch(gemm.plan(params, program.gpu.capabilities), [a, b, biasVector, extra, gamma, out, ...kept]);
        if (parts === 1) return [out, ...kept];
        const sum = program.intermediate('sum', [M, N]);
        program.dispatch(sumPartials.plan({ parts, elements: M * N }), [out, sum]);
        return [sum];
      },
      check: ([result, kept]) => {
        const [left, right, biases, extras, gammas] = data;
        const at = (place: number): number => {
          const [m, n] = [Math.floor(place / N), place % N];
          return productAt(params, left, right, m, n) + (bias ? biases[n] : 0);
        };
        const expected = (place: number): number => {
          const v = at(place);
          if (epilogue === 'gelu' || epilogue === 'geluKeep') return oracle.gelu(v);
          if (epilogue === 'geluBackward') return v * geluSlope(extras[place]);
          if (epilogue === 'residual') return extras[place] + gammas[place % N] * v;
          return v;
        };
        const comparisons = [compareSamples('product', result, expected)];
        if (keepsInput) comparisons.push(compareSamples('what the GELU was taken of', kept, at));
        return comparisons;
      },
    };
  });
}

function cases(capabilities: Capabilities): BenchCase[] {
  const { software } = capabilities;
  // ViT-S tokens of 224 px pictures: 2 pictures on a CPU, 64 on a GPU.
  const rows = 257 * (software ? 2 : 64);
  const [D, hidden] = [384, 1536];
  const layouts = ['NT', 'NN', 'TN'] as const;
  const list: BenchCase[] = [];
  for (const layout of layouts) {
    for (const variant of ['direct', 'tiled'] as const) {
      const [M, N, K] = layout === 'TN' ? [D, D, rows] : [rows, D, D];
      list.push(gemmCase({ layout, M, N, K, variant }, capabilities));
    }
  }
  // No size a multiple of 4, so that only the tiled variant fits.
  for (const layout of layouts) list.push(gemmCase({ layout, M: 261, N: 257, K: 50 + 1 }, capabilities));
  const fused = { layout: 'NT', M: rows, N: software ? D : hidden, K: D, bias: true } as const;
  for (const epilogue of ['none', 'gelu', 'geluKeep', 'residual'] as const)
    list.push(gemmCase({ ...fused, epilogue }, capabilities));
  list.push(gemmCase({ ...fused, layout: 'NN', bias: false, epilogue: 'geluBackward' }, capabilities));
  const weightGradient = { layout: 'TN', M: 256, N: 256, K: software ? 2056 : 16448 } as const;
  list.push(
    gemmCase({ ...weightGradient, parts: Math.max(gemm.splitK(weightGradient, capabilities), 2) }, capabilities),
  );

  const [R, I, H] = software ? [257, 128, 512] : [257 * 8, D, hidden];
  list.push(
    ...forwardAndBackward({
      operator: 'mlp, two layers with GELU',
      shape: `${R} × ${I} → ${H} → ${I}`,
      inputs: {
        x: { shape: [R, I] },
        w1: { shape: [H, I], data: () => noise(H * I, 11).map((v) => 0.1 * v) },
        b1: { shape: [H] },
        w2: { shape: [I, H], data: () => noise(I * H, 12).map((v) => 0.1 * v) },
        b2: { shape: [I] },
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

// --- Peers -----------------------------------------------------------------------------------------------------------

/** One element of a [n, n] product; gpu.js translates the text of this function. */
function elementOfProduct(this: IKernelFunctionThis<{ size: number }>, a: number[], b: number[]): number {
  let sum = 0;
  for (let k = 0; k < this.constants.size; k++) {
    sum += a[this.thread.y * this.constants.size + k] * b[k * this.constants.size + this.thread.x];
  }
  return sum;
}

/** The loop that everyone writes first. */
function productInLoops(a: Float32Array, b: Float32Array, size: number): Float32Array {
  const c = new Float32Array(size * size);
  for (let m = 0; m < size; m++) {
    for (let n = 0; n < size; n++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += a[m * size + k] * b[k * size + n];
      c[m * size + n] = sum;
    }
  }
  return c;
}

/** Kept for the life of the process: Dawn crashes when its instance is collected while a device lives. */
let instance: ReturnType<typeof create> | undefined;

async function openGpuJs(
  mode: 'cpu' | 'webasm' | 'webgpu',
  size: number,
  a: Float32Array,
  b: Float32Array,
): Promise<OpenPeer> {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  if (mode === 'webgpu') {
    // gpu.js finds WebGPU where a browser has it.
    instance ??= create([]);
    Object.defineProperty(globalThis, 'navigator', { value: { gpu: instance }, configurable: true });
  }
  const restore = (): void => {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else Reflect.deleteProperty(globalThis, 'navigator');
  };
  try {
    const gpu = new GPU({ mode });
    const kernel = gpu.createKernel(elementOfProduct, {
      output: [size, size],
      constants: { size },
      precision: 'single',
    });
    let rows: Float32Array[] = [];
    return {
      run: async () => {
        rows = (await kernel(a as unknown as number[], b as unknown as number[])) as unknown as Float32Array[];
      },
      result: async () => {
        const flat = new Float32Array(size * size);
        for (const [m, row] of rows.entries()) flat.set(row, m * size);
        return flat;
      },
      close: async () => {
        await gpu.destroy();
        if (mode === 'webgpu') restore();
      },
    };
  } catch (error) {
    restore();
    throw error;
  }
}

async function openOurs(
  gpu: Gpu,
  size: number,
  a: Float32Array,
  b: Float32Array,
  transfers: boolean,
): Promise<OpenPeer> {
  const program = new Program(gpu, 'our product');
  const [left, right] = [program.input('a', [size, size]), program.input('b', [size, size])];
  const out = program.keep(program.intermediate('product', [size, size]));
  const plan = gemm.plan({ layout: 'NN', M: size, N: size, K: size }, gpu.capabilities);
  program.dispatch(plan, [left, right, left, left, left, out]);
  const upload = (): void => {
    program.write(left, a);
    program.write(right, b);
  };
  upload();
  await program.compile();
  return {
    run: async () => {
      if (transfers) upload();
      program.run();
      if (transfers) await program.read(out);
      else await gpu.device.queue.onSubmittedWorkDone();
    },
    result: async () => (await program.read(out)) as Float32Array,
    close: () => program.dispose(),
  };
}

function peers(gpu: Gpu): PeerGroup[] {
  const sizes = gpu.capabilities.software ? [256] : [256, 1024];
  return sizes.map((size) => {
    const [a, b] = [noise(size * size, 1), noise(size * size, 2)];
    const params = { layout: 'NN', M: size, N: size, K: size } as const;
    const loops = async (): Promise<OpenPeer> => {
      let c: Float32Array = new Float32Array();
      return {
        run: async () => {
          c = productInLoops(a, b, size);
        },
        result: async () => c,
        close: () => {},
      };
    };
    return {
      operator: 'product of square matrices',
      shape: `${size} × ${size} × ${size}`,
      flops: 2 * size ** 3,
      check: (result) => [
        compareSamples(
          'product',
          result,
          (i) => productAt(params, a, b, Math.floor(i / size), i % size),
          FORWARD_BOUND,
        ),
      ],
      peers: [
        { name: 'webdino, data resident', open: () => openOurs(gpu, size, a, b, false) },
        { name: 'webdino, with upload and read-back', open: () => openOurs(gpu, size, a, b, true) },
        { name: 'JavaScript, three loops', open: loops },
        { name: 'gpu.js cpu', open: () => openGpuJs('cpu', size, a, b) },
        { name: 'gpu.js webasm', open: () => openGpuJs('webasm', size, a, b) },
        { name: 'gpu.js webgpu, with upload and read-back', open: () => openGpuJs('webgpu', size, a, b) },
      ],
    };
  });
}

export const section: BenchSection = { name: 'gemm', question: 'How fast is a matrix product?', cases, peers };
