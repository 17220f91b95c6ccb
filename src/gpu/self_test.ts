/**
 * Does this device compute right, and roughly how fast? A few small shaders in plain WebGPU, apart from the engine and its
 * kernels, each compared with float64 on the CPU: used by `webdino doctor` to tell a broken driver from a broken program.
 *
 * Every output buffer starts as NaN and every run is inside error scopes, so that a pipeline which never ran cannot pass,
 * nor post a speed.
 */

import { GpuError } from '../errors.js';
import { BufferUsage, MapMode } from './constants.js';

export interface SelfTestResult {
  readonly name: string;
  /** Largest error found, as `measure` says; NaN where the GPU did not write its output. */
  readonly error: number;
  readonly limit: number;
  readonly measure: string;
  readonly passed: boolean;
}

export interface Speed {
  /** A plain float32 gemm with 4 × 4 results an invocation: what this device does without tuning. */
  readonly gemmGflops: number;
  readonly gemmSize: number;
  /** Bytes read plus bytes written, a second, in units of 10⁹. */
  readonly copyGigabytesPerSecond: number;
  readonly copyBytes: number;
}

const GEMM = /* wgsl */ `
// C[M, N] = A[M, K] · B[K, N], row-major float32. A workgroup owns 64 × 64 of C, an invocation 4 × 4.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<uniform> size: vec4u; // M, N, K

var<workgroup> aTile: array<vec4f, 256>; // [16 of K][64 rows]
var<workgroup> bTile: array<vec4f, 256>; // [16 of K][64 columns]

fn aAt(row: u32, k: u32) -> f32 {
  if (row >= size.x || k >= size.z) { return 0.0; }
  return a[row * size.z + k];
}

fn bAt(k: u32, column: u32) -> f32 {
  if (k >= size.z || column >= size.y) { return 0.0; }
  return b[k * size.y + column];
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.y * 64 + local.y * 4;
  let column = group.x * 64 + local.x * 4;
  let slot = local.y * 16 + local.x;
  var sum: array<vec4f, 4>;
  for (var k = 0u; k < size.z; k += 16) {
    let loadRow = group.y * 64 + local.x * 4;
    let loadK = k + local.y;
    aTile[slot] = vec4f(aAt(loadRow, loadK), aAt(loadRow + 1, loadK), aAt(loadRow + 2, loadK), aAt(loadRow + 3, loadK));
    bTile[slot] = vec4f(bAt(loadK, column), bAt(loadK, column + 1), bAt(loadK, column + 2), bAt(loadK, column + 3));
    workgroupBarrier();
    for (var i = 0u; i < 16; i++) {
      let left = aTile[i * 16 + local.y];
      let right = bTile[i * 16 + local.x];
      sum[0] += left.x * right;
      sum[1] += left.y * right;
      sum[2] += left.z * right;
      sum[3] += left.w * right;
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4; i++) {
    for (var j = 0u; j < 4; j++) {
      if (row + i < size.x && column + j < size.y) { c[(row + i) * size.y + column + j] = sum[i][j]; }
    }
  }
}`;

const TRANSCENDENTAL = /* wgsl */ `
// For each x: exp(x), ln(|x| + 1), 1 / sqrt(|x| + 1), tanh(x), erf(x) by Abramowitz and Stegun 7.1.26.
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

fn erf(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * abs(x));
  let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return sign(x) * (1.0 - p * exp(-x * x));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= arrayLength(&input)) { return; }
  let x = input[i];
  output[i * 5] = exp(x);
  output[i * 5 + 1] = log(abs(x) + 1.0);
  output[i * 5 + 2] = inverseSqrt(abs(x) + 1.0);
  output[i * 5 + 3] = tanh(x);
  output[i * 5 + 4] = erf(x);
}`;

const REDUCTION = /* wgsl */ `
// sums[g] = sum of the g-th run of 4096 values: strided by invocation, then a tree in workgroup memory.
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < 4096; i += 256) {
    let at = group.x * 4096 + i;
    if (at < arrayLength(&input)) { sum += input[at]; }
  }
  partial[lane] = sum;
  workgroupBarrier();
  for (var width = 128u; width > 0; width /= 2) {
    if (lane < width) { partial[lane] += partial[lane + width]; }
    workgroupBarrier();
  }
  if (lane == 0) { sums[group.x] = partial[0]; }
}`;

const SUBGROUP = /* wgsl */ `
enable subgroups;
// The sum of 4096 values by subgroupAdd, whatever the subgroups' size; output[1] is that size.
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) width: u32,
  @builtin(subgroup_invocation_id) place: u32,
) {
  var sum = 0.0;
  for (var i = lane; i < 4096; i += 256) { sum += input[i]; }
  let total = subgroupAdd(sum);
  partial[lane] = select(0.0, total, place == 0);
  workgroupBarrier();
  if (lane == 0) {
    var all = 0.0;
    for (var i = 0u; i < 256; i++) { all += partial[i]; }
    output[0] = all;
    output[1] = f32(width);
  }
}`;

const HALF = /* wgsl */ `
enable f16;
// Dot products of 256 half-precision pairs, multiplied as halves, summed in float32.
@group(0) @binding(0) var<storage, read> a: array<vec2h>;
@group(0) @binding(1) var<storage, read> b: array<vec2h>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = 0.0;
  for (var i = 0u; i < 128; i++) {
    let product = a[id.x * 128 + i] * b[id.x * 128 + i];
    sum += f32(product.x) + f32(product.y);
  }
  output[id.x] = sum;
}`;

const COPY = /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x; i < arrayLength(&source); i += groups.x * 256) { target_[i] = source[i]; }
}`;

/**
 * Runs the numeric tests that the device's features allow: gemm, elementary functions, a workgroup reduction, and where
 * there are subgroups or shader-f16, those. Throws GpuError where the device refuses a shader or reports an error.
 */
export async function runSelfTest(device: GPUDevice): Promise<SelfTestResult[]> {
  return guarded(device, 'the self-test', async () => {
    const results = [await testGemm(device), await testTranscendental(device), await testReduction(device)];
    if (device.features.has('subgroups')) results.push(await testSubgroups(device));
    if (device.features.has('shader-f16')) results.push(await testHalf(device));
    return results;
  });
}

/** Times a float32 gemm and a copy, about a second together. Throws GpuError where what was timed is wrong. */
export async function measureSpeed(device: GPUDevice): Promise<Speed> {
  return guarded(device, 'the speed test', async () => ({ ...(await timeGemm(device)), ...(await timeCopy(device)) }));
}

/** Turns whatever the device reports meanwhile into an exception. */
async function guarded<T>(device: GPUDevice, what: string, action: () => Promise<T>): Promise<T> {
  const kinds = ['validation', 'out-of-memory', 'internal'] as const;
  for (const kind of kinds) device.pushErrorScope(kind);
  let value: T | undefined;
  let thrown: unknown;
  try {
    value = await action();
  } catch (error) {
    thrown = error;
  }
  const reported: string[] = [];
  for (const _ of kinds) {
    const error = await device.popErrorScope();
    if (error) reported.push(error.message.trim());
  }
  if (reported.length > 0) throw new GpuError(`the GPU refused ${what}: ${reported.join('; ')}`, { cause: thrown });
  if (thrown) throw thrown;
  return value as T;
}

/** Uniform random float32 in [−1, 1), the same on every machine (mulberry32). */
function uniform(count: number, seed: number): Float32Array {
  const values = new Float32Array(count);
  let state = seed;
  for (let i = 0; i < count; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    values[i] = ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 31 - 1;
  }
  return values;
}

function upload(device: GPUDevice, data: Float32Array | Uint16Array | Uint32Array, usage: number): GPUBuffer {
  const buffer = device.createBuffer({
    size: data.byteLength,
    usage: usage | BufferUsage.COPY_DST | BufferUsage.COPY_SRC,
  });
  device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
  return buffer;
}

async function read(device: GPUDevice, buffer: GPUBuffer, offset = 0, size = buffer.size): Promise<Float32Array> {
  const staging = device.createBuffer({ size, usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(MapMode.READ);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return values;
}

interface Program {
  run(times: number): void;
  destroy(): void;
}

async function program(
  device: GPUDevice,
  code: string,
  buffers: readonly GPUBuffer[],
  workgroups: readonly [number, number?],
): Promise<Program> {
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const bindGroup = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return {
    run(times) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      for (let i = 0; i < times; i++) pass.dispatchWorkgroups(...(workgroups as [number, number?]));
      pass.end();
      device.queue.submit([encoder.finish()]);
    },
    destroy() {
      for (const buffer of buffers) buffer.destroy();
    },
  };
}

/** Runs a shader once; the last of `buffers` that is not a uniform is the output, at `outputAt`. */
async function compute(
  device: GPUDevice,
  code: string,
  inputs: readonly (Float32Array | Uint16Array)[],
  outputLength: number,
  workgroups: readonly [number, number?],
  uniformData?: Uint32Array,
): Promise<Float32Array> {
  const buffers = inputs.map((data) => upload(device, data, BufferUsage.STORAGE));
  const output = upload(device, new Float32Array(outputLength).fill(Number.NaN), BufferUsage.STORAGE);
  buffers.push(output);
  if (uniformData) buffers.push(upload(device, uniformData, BufferUsage.UNIFORM));
  const { run, destroy } = await program(device, code, buffers, workgroups);
  run(1);
  const values = await read(device, output);
  destroy();
  return values;
}

/** The largest |got − want| / scale; NaN as soon as one value is NaN. */
function worst(count: number, errorAt: (i: number) => number): number {
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const error = errorAt(i);
    if (Number.isNaN(error)) return Number.NaN;
    largest = Math.max(largest, error);
  }
  return largest;
}

function result(name: string, measure: string, error: number, limit: number): SelfTestResult {
  return { name, measure, error, limit, passed: error <= limit };
}

/** One element of A · B in float64, and the sum of the terms' magnitudes, to which float32's error is proportional. */
function dot(a: Float32Array, b: Float32Array, n: number, k: number, row: number, column: number): [number, number] {
  let sum = 0;
  let magnitude = 0;
  for (let i = 0; i < k; i++) {
    const term = a[row * k + i] * b[i * n + column];
    sum += term;
    magnitude += Math.abs(term);
  }
  return [sum, magnitude];
}

async function testGemm(device: GPUDevice): Promise<SelfTestResult> {
  const [m, n, k] = [131, 77, 261];
  const a = uniform(m * k, 1);
  const b = uniform(k * n, 2);
  const c = await compute(device, GEMM, [a, b], m * n, [2, 3], new Uint32Array([m, n, k, 0]));
  const error = worst(m * n, (i) => {
    const [want, magnitude] = dot(a, b, n, k, Math.floor(i / n), i % n);
    return Math.abs(c[i] - want) / magnitude;
  });
  // Float32 sums of 261 terms in order: at most 261 · 2⁻²⁴ = 1.6e-5 of the terms' magnitudes; in practice far less.
  return result(`gemm ${m} × ${n} × ${k}, float32`, 'of the terms', error, 2e-6);
}

/** erf by its Maclaurin series, and by its continued fraction for large arguments (Abramowitz and Stegun 7.1.5, 7.1.14). */
function erf(x: number): number {
  const z = Math.abs(x);
  let value: number;
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let i = 1; Math.abs(term) > 1e-18; i++) {
      term *= (-z * z) / i;
      sum += term / (2 * i + 1);
    }
    value = (2 / Math.sqrt(Math.PI)) * sum;
  } else {
    let fraction = 0;
    for (let i = 60; i >= 1; i--) fraction = i / 2 / (z + fraction);
    value = 1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction);
  }
  return Math.sign(x) * value;
}

async function testTranscendental(device: GPUDevice): Promise<SelfTestResult> {
  const x = uniform(2000, 3).map((value) => value * 12);
  const got = await compute(device, TRANSCENDENTAL, [x], x.length * 5, [Math.ceil(x.length / 64)]);
  const error = worst(x.length, (i) => {
    const z = Math.abs(x[i]) + 1;
    const relative = (value: number, want: number): number => Math.abs(value / want - 1);
    return Math.max(
      relative(got[i * 5], Math.exp(x[i])),
      Math.abs(got[i * 5 + 1] - Math.log(z)),
      relative(got[i * 5 + 2], 1 / Math.sqrt(z)),
      Math.abs(got[i * 5 + 3] - Math.tanh(x[i])),
      Math.abs(got[i * 5 + 4] - erf(x[i])),
    );
  });
  // WGSL allows exp 3 + 2 |x| units in the last place: 27 · 2⁻²³ = 3.2e-6 at |x| = 12. tanh may be built from exp.
  return result('exp, log, inverseSqrt, tanh, erf', 'relative or absolute', error, 1e-5);
}

async function testReduction(device: GPUDevice): Promise<SelfTestResult> {
  const values = uniform(100_003, 4);
  const groups = Math.ceil(values.length / 4096);
  const sums = await compute(device, REDUCTION, [values], groups, [groups]);
  const error = worst(groups, (group) => {
    const run = values.subarray(group * 4096, (group + 1) * 4096);
    const want = run.reduce((sum, value) => sum + value, 0);
    return Math.abs(sums[group] - want) / run.reduce((sum, value) => sum + Math.abs(value), 0);
  });
  return result('workgroup reduction of 100,003 values', 'of the terms', error, 2e-6);
}

async function testSubgroups(device: GPUDevice): Promise<SelfTestResult> {
  const values = uniform(4096, 5);
  const [sum, width] = await compute(device, SUBGROUP, [values], 2, [1]);
  const want = values.reduce((total, value) => total + value, 0);
  const error = Math.abs(sum - want) / values.reduce((total, value) => total + Math.abs(value), 0);
  return result(`subgroupAdd over 4096 values, subgroups of ${width}`, 'of the terms', error, 2e-6);
}

/** The half nearest to a value in [−1, 1), as its bits, and as a number. Subnormal halves are flushed to zero. */
function toHalf(value: number): { bits: number; value: number } {
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return { bits: 0, value: 0 };
  let exponent = Math.floor(Math.log2(magnitude));
  let fraction = Math.round((magnitude / 2 ** exponent - 1) * 1024);
  if (fraction === 1024) {
    fraction = 0;
    exponent++;
  }
  const sign = value < 0 ? 1 : 0;
  return {
    bits: (sign << 15) | ((exponent + 15) << 10) | fraction,
    value: (sign ? -1 : 1) * 2 ** exponent * (1 + fraction / 1024),
  };
}

async function testHalf(device: GPUDevice): Promise<SelfTestResult> {
  const rows = 64;
  const [a, b] = [6, 7].map((seed) => Array.from(uniform(rows * 256, seed), toHalf));
  const bits = (halves: typeof a): Uint16Array => Uint16Array.from(halves, (half) => half.bits);
  const got = await compute(device, HALF, [bits(a), bits(b)], rows, [1]);
  const error = worst(rows, (row) => {
    let want = 0;
    let magnitude = 0;
    for (let i = row * 256; i < (row + 1) * 256; i++) {
      want += a[i].value * b[i].value;
      magnitude += Math.abs(a[i].value * b[i].value);
    }
    return Math.abs(got[row] - want) / magnitude;
  });
  // Each product is rounded to a half: at most 2⁻¹¹ = 4.9e-4 of it.
  return result('half-precision products, float32 sums', 'of the terms', error, 5e-4);
}

/** The shortest of three timed submissions, in seconds; the first, untimed one pays for the compilation. */
async function shortest(device: GPUDevice, run: (times: number) => void, times: number): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    run(times);
    await device.queue.onSubmittedWorkDone();
    best = Math.min(best, performance.now() - start);
  }
  return best / 1000;
}

async function timeGemm(device: GPUDevice): Promise<Pick<Speed, 'gemmGflops' | 'gemmSize'>> {
  for (let size = 256; ; size *= 2) {
    const a = uniform(size * size, 8);
    const b = uniform(size * size, 9);
    const output = upload(device, new Float32Array(size * size).fill(Number.NaN), BufferUsage.STORAGE);
    const { run, destroy } = await program(
      device,
      GEMM,
      [
        upload(device, a, BufferUsage.STORAGE),
        upload(device, b, BufferUsage.STORAGE),
        output,
        upload(device, new Uint32Array([size, size, size, 0]), BufferUsage.UNIFORM),
      ],
      [size / 64, size / 64],
    );
    run(1);
    const got = await read(device, output, 0, size * 4);
    for (let column = 0; column < size; column += 37) {
      const [want, magnitude] = dot(a, b, size, size, 0, column);
      if (!(Math.abs(got[column] - want) <= 2e-6 * magnitude)) {
        throw new GpuError(
          `a gemm of ${size} × ${size} × ${size} is wrong: ${got[column]} for ${want}; do not use this driver`,
        );
      }
    }
    const once = await shortest(device, run, 1);
    const times = Math.max(1, Math.floor(0.05 / once));
    if (once < 0.02 && size < 2048) {
      destroy();
      continue;
    }
    const seconds = times > 1 ? (await shortest(device, run, times)) / times : once;
    destroy();
    return { gemmGflops: (2 * size ** 3) / seconds / 1e9, gemmSize: size };
  }
}

async function timeCopy(device: GPUDevice): Promise<Pick<Speed, 'copyGigabytesPerSecond' | 'copyBytes'>> {
  const largest = Math.min(256 * 2 ** 20, device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  for (let bytes = 16 * 2 ** 20; ; bytes *= 2) {
    const pattern = uniform(bytes / 4, 10);
    const output = upload(device, new Float32Array(bytes / 4).fill(Number.NaN), BufferUsage.STORAGE);
    const { run, destroy } = await program(
      device,
      COPY,
      [upload(device, pattern, BufferUsage.STORAGE), output],
      [2048],
    );
    run(1);
    const tail = await read(device, output, bytes - 4096, 4096);
    if (tail.some((value, i) => value !== pattern[bytes / 4 - 1024 + i])) {
      throw new GpuError(`a copy of ${bytes} bytes came back changed; do not use this driver`);
    }
    const once = await shortest(device, run, 1);
    if (once < 0.01 && bytes * 2 <= largest) {
      destroy();
      continue;
    }
    const times = Math.max(1, Math.floor(0.02 / once));
    const seconds = times > 1 ? (await shortest(device, run, times)) / times : once;
    destroy();
    return { copyGigabytesPerSecond: (2 * bytes) / seconds / 1e9, copyBytes: bytes };
  }
}
