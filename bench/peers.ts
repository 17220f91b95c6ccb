/**
 * What others need for the same matrix product, in the same run and on the same adapter: a plain loop, gpu.js,
 * TensorFlow.js on WebGPU, ONNX Runtime. All but the loop are loaded only if they are installed; none is needed.
 */

import type { IKernelFunctionThis } from 'gpu.js';
import * as gemm from '../kernels/gemm.js';
import type { Gpu } from '../src/gpu/device.js';
import { openAdapter } from '../src/gpu/node_adapter.js';
import { Program } from '../src/gpu/program.js';
import { noise } from '../test/fixture.js';
import type { OpenPeer, Peer, PeerGroup } from './checked_bench.js';
import { compareSamples } from './comparison.js';

/** Products of square matrices in float32. */
const SIZES = { small: 256, full: 1024 };

interface Product {
  readonly size: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** @throws Error saying how to install it */
// biome-ignore lint/suspicious/noExplicitAny: what may not be installed has no types here
async function load(name: string, ...beside: readonly string[]): Promise<any> {
  try {
    return await import(name);
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    throw new Error(`not installed; npm install --no-save ${[...beside, name].join(' ')}`);
  }
}

// --- Plain JavaScript --------------------------------------------------------------------------------------------------

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

async function openLoops({ size, a, b }: Product): Promise<OpenPeer> {
  let c: Float32Array = new Float32Array();
  return {
    run: async () => {
      c = productInLoops(a, b, size);
    },
    result: async () => c,
    close: () => {},
  };
}

// --- Ours --------------------------------------------------------------------------------------------------------------

async function openOurs(gpu: Gpu, { size, a, b }: Product, transfers: boolean): Promise<OpenPeer> {
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

// --- In a browser's place ------------------------------------------------------------------------------------------------

/**
 * Puts WebGPU where a browser has it, with the adapter that webdino takes by itself. Returns what undoes it.
 * The constants (GPUBufferUsage …) stay: they are harmless.
 */
async function asInBrowser(): Promise<() => void> {
  const { globals } = await load('webgpu');
  Object.assign(globalThis, globals);
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  const gpu = {
    requestAdapter: async () => (await openAdapter()).adapter,
    getPreferredCanvasFormat: () => 'rgba8unorm',
    wgslLanguageFeatures: new Set<string>(),
  };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: '' }, configurable: true });
  return () => {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else Reflect.deleteProperty(globalThis, 'navigator');
  };
}

/** One element of a [n, n] product; gpu.js translates the text of this function. */
function elementOfProduct(this: IKernelFunctionThis<{ size: number }>, a: number[], b: number[]): number {
  let sum = 0;
  for (let k = 0; k < this.constants.size; k++) {
    sum += a[this.thread.y * this.constants.size + k] * b[k * this.constants.size + this.thread.x];
  }
  return sum;
}

async function openGpuJs(mode: 'cpu' | 'webasm' | 'webgpu', { size, a, b }: Product): Promise<OpenPeer> {
  const { GPU } = await load('gpu.js');
  const restore = mode === 'webgpu' ? await asInBrowser() : () => {};
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
        rows = await kernel(a, b);
      },
      result: async () => {
        const flat = new Float32Array(size * size);
        for (const [m, row] of rows.entries()) flat.set(row, m * size);
        return flat;
      },
      close: async () => {
        await gpu.destroy();
        restore();
      },
    };
  } catch (error) {
    restore();
    throw error;
  }
}

async function openTensorFlow({ size, a, b }: Product): Promise<OpenPeer> {
  const name = '@tensorflow/tfjs-backend-webgpu';
  const tf = await load('@tensorflow/tfjs-core', name);
  const restore = await asInBrowser();
  try {
    // It registers itself when it is loaded, if WebGPU is there by then.
    await load(name, '@tensorflow/tfjs-core');
    if (!(await tf.setBackend('webgpu'))) throw new Error('its WebGPU backend does not start here');
    await tf.ready();
    const [left, right] = [tf.tensor2d(a, [size, size]), tf.tensor2d(b, [size, size])];
    let result = new Float32Array();
    return {
      run: async () => {
        const product = tf.matMul(left, right);
        result = await product.data();
        product.dispose();
      },
      result: async () => result,
      close: () => {
        left.dispose();
        right.dispose();
        tf.removeBackend('webgpu');
        restore();
      },
    };
  } catch (error) {
    restore();
    throw error;
  }
}

// --- ONNX Runtime --------------------------------------------------------------------------------------------------------

/** c = MatMul(a, b) as an ONNX model: protocol buffers, written by hand for want of a writer. */
function productModel(size: number): Uint8Array {
  const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
  const number = (field: number, value: number): number[] => [field << 3, ...varint(value)];
  const bytes = (field: number, ...body: number[][]): number[] => {
    const flat = body.flat();
    return [(field << 3) | 2, ...varint(flat.length), ...flat];
  };
  const text = (field: number, value: string): number[] => bytes(field, [...Buffer.from(value)]);
  const FLOAT = 1;
  const dimension = bytes(1, number(1, size));
  const type = bytes(2, bytes(1, number(1, FLOAT), bytes(2, dimension, dimension)));
  const value = (name: string): number[][] => [text(1, name), type];
  const node = bytes(1, text(1, 'a'), text(1, 'b'), text(2, 'c'), text(4, 'MatMul'));
  const graph = bytes(
    7,
    node,
    text(2, 'product'),
    bytes(11, ...value('a')),
    bytes(11, ...value('b')),
    bytes(12, ...value('c')),
  );
  const [irVersion, operatorSet] = [8, 17];
  return Uint8Array.from([...number(1, irVersion), ...graph, ...bytes(8, text(1, ''), number(2, operatorSet))]);
}

async function openOnnx(name: 'onnxruntime-node' | 'onnxruntime-web', { size, a, b }: Product): Promise<OpenPeer> {
  const module = await load(name);
  const { InferenceSession, Tensor } = module.InferenceSession ? module : module.default;
  const session = await InferenceSession.create(productModel(size));
  const inputs = { a: new Tensor('float32', a, [size, size]), b: new Tensor('float32', b, [size, size]) };
  let result = new Float32Array();
  return {
    run: async () => {
      result = (await session.run(inputs)).c.data;
    },
    result: async () => result,
    close: () => session.release(),
  };
}

// --- All ---------------------------------------------------------------------------------------------------------------

/** @param small a shape that a CPU does in a moment */
export function productPeers(gpu: Gpu, small: boolean): PeerGroup[] {
  const size = small ? SIZES.small : SIZES.full;
  const product: Product = { size, a: noise(size * size, 1), b: noise(size * size, 2) };
  const { a, b } = product;
  const expectedAt = (place: number): number => {
    const [m, n] = [Math.floor(place / size), place % size];
    let sum = 0;
    for (let k = 0; k < size; k++) sum += a[m * size + k] * b[k * size + n];
    return sum;
  };
  const peer = (name: string, open: () => Promise<OpenPeer>): Peer => ({ name, open });
  return [
    {
      operator: 'product of square matrices',
      shape: `${size} × ${size} × ${size}`,
      flops: 2 * size ** 3,
      check: (result) => [compareSamples('product', result, expectedAt)],
      peers: [
        peer('webdino, data resident', () => openOurs(gpu, product, false)),
        peer('webdino, with upload and read-back', () => openOurs(gpu, product, true)),
        peer('JavaScript, three loops', () => openLoops(product)),
        peer('gpu.js cpu', () => openGpuJs('cpu', product)),
        peer('gpu.js webasm', () => openGpuJs('webasm', product)),
        peer('gpu.js webgpu, with upload and read-back', () => openGpuJs('webgpu', product)),
        peer('TensorFlow.js webgpu, with read-back', () => openTensorFlow(product)),
        peer('onnxruntime-node, CPU', () => openOnnx('onnxruntime-node', product)),
        peer('onnxruntime-web, WebAssembly', () => openOnnx('onnxruntime-web', product)),
      ],
    },
  ];
}
