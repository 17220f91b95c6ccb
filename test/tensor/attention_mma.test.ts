import test, { type Test } from 'tape';
import { type AttentionParams, sequenceTiles } from '../../kernels/attention.js';
import * as forwardKernel from '../../kernels/attention_mma.js';
import * as backwardKvKernel from '../../kernels/attention_mma_backward_kv.js';
import * as backwardQKernel from '../../kernels/attention_mma_backward_q.js';
import { GpuError } from '../../src/errors.js';
import { BASELINE_CAPABILITIES, type Capabilities } from '../../src/gpu/capabilities.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { type PackedSequences, totalRows } from '../../src/tensor/sequences.js';
import { emulateMatrices } from '../mma_emulation.js';
import { allClose, noise, sameBits, TENSOR_CORES, testGpu } from '../fixture.js';
import * as oracle from '../oracle/attention.js';

const CROPS: PackedSequences = [
  { count: 1, length: 257 },
  { count: 1, length: 261 },
  { count: 2, length: 50 },
  { count: 1, length: 1 },
];
const SHORT: PackedSequences = [
  { count: 2, length: 17 },
  { count: 3, length: 1 },
  { count: 1, length: 37 },
];

const SMALL_MEMORY: Capabilities = { ...TENSOR_CORES, maxWorkgroupMemoryBytes: 16384 };

test('attention on subgroup matrices: plans', (t) => {
  const bytes = (caps: Capabilities, headDim: number, long = false): (number | undefined)[] =>
    (['forward', 'backward'] as const).map((direction) => {
      const params = { heads: 2, headDim, sequences: [{ count: 1, length: long ? 1370 : 257 }] };
      return forwardKernel.fits(params, caps)
        ? forwardKernel.layoutOf(params, caps, direction).workgroupBytes
        : undefined;
    });
  for (const headDim of [32, 48, 64, 80, 96, 128]) {
    for (const long of [false, true]) {
      const used = bytes(TENSOR_CORES, headDim, long);
      t.ok(
        used.every((b) => b !== undefined && b <= 24576),
        `heads of ${headDim}${long ? ', long sequences' : ''}: ${used} bytes leave room for two workgroups`,
      );
    }
  }
  for (const headDim of [32, 64]) {
    t.ok(
      bytes(SMALL_MEMORY, headDim).every((b) => b !== undefined && b <= 16384),
      `heads of ${headDim} fit into 16 KiB`,
    );
  }
  const params = { heads: 3, headDim: 64, sequences: CROPS };
  t.notOk(forwardKernel.fits({ ...params, headDim: 72 }, TENSOR_CORES), 'heads of 72 are no whole matrices');
  t.notOk(forwardKernel.fits({ ...params, headDim: 144 }, TENSOR_CORES), 'heads of 144 are too wide');
  t.notOk(forwardKernel.fits(params, BASELINE_CAPABILITIES), 'nor does an adapter without matrices');
  t.throws(() => forwardKernel.plan(params, BASELINE_CAPABILITIES), GpuError, 'whose plan throws');
  const { ownedRows } = forwardKernel.layoutOf(params, TENSOR_CORES, 'forward');
  t.equal(ownedRows, 128, 'a workgroup owns 128 queries');
  const plan = forwardKernel.plan(params, TENSOR_CORES);
  t.equal(plan.grid[0], 3 * (3 + 3 + 1 + 1 + 1), 'a workgroup for each tile and head');
  t.equal(plan.flops, 4 * 3 * 64 * (257 ** 2 + 261 ** 2 + 2 * 50 ** 2 + 1), 'FLOPs');
  t.end();
});

/** d_qkv of attention in float64, by the formulas of the softmax. */
function gradient(
  qkv: Float64Array,
  dOut: Float64Array,
  { heads, headDim, sequences }: AttentionParams,
): { dQkv: Float64Array; delta: Float64Array } {
  const width = heads * headDim;
  const rows = totalRows(sequences);
  const { out, lse } = oracle.attention(qkv, heads, headDim, sequences);
  const dQkv = new Float64Array(qkv.length);
  const delta = new Float64Array(heads * rows);
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number): number => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += a[i + d] * b[j + d];
    return sum;
  };
  const scale = headDim ** -0.5;
  let start = 0;
  for (const { count, length } of sequences) {
    for (let s = 0; s < count; s++, start += length) {
      for (let head = 0; head < heads; head++) {
        for (let r = start; r < start + length; r++) {
          const q = r * 3 * width + head * headDim;
          const o = r * width + head * headDim;
          const mean = dot(dOut, o, out, o);
          delta[head * rows + r] = mean;
          for (let j = start; j < start + length; j++) {
            const k = j * 3 * width + width + head * headDim;
            const p = Math.exp(scale * dot(qkv, q, qkv, k) - lse[head * rows + r]);
            const ds = scale * p * (dot(dOut, o, qkv, k + width) - mean);
            for (let d = 0; d < headDim; d++) {
              dQkv[q + d] += ds * qkv[k + d];
              dQkv[k + d] += ds * qkv[q + d];
              dQkv[k + width + d] += p * dOut[o + d];
            }
          }
        }
      }
    }
  }
  return { dQkv, delta };
}

function halves(data: Float32Array): Float32Array {
  return fromHalf(toHalf(data)).slice(0, data.length);
}

async function check(
  t: Test,
  gpu: Gpu,
  name: string,
  params: AttentionParams,
  amplitude: number,
  choice: { met?: 16 | 32; apart?: boolean } = {},
): Promise<void> {
  const caps = gpu.capabilities;
  if (!forwardKernel.fits(params, caps)) {
    t.skip(`${name}: ${caps.description} has no subgroup matrices for it`);
    return;
  }
  const { heads, headDim, sequences } = params;
  const rows = totalRows(sequences);
  const width = heads * headDim;
  const qkvData = halves(noise(rows * 3 * width, 61).map((v) => amplitude * v));
  const dOutData = halves(noise(rows * width, 62));
  const expected = oracle.attention(qkvData, heads, headDim, sequences);
  const slopes = gradient(Float64Array.from(qkvData), Float64Array.from(dOutData), params);

  const program = new Program(gpu, name);
  const table = ({ ownedRows }: forwardKernel.AttentionMmaLayout) => {
    const data = sequenceTiles(sequences, ownedRows);
    return program.constant('tiles', [data.length / 4, 4], data);
  };
  const qkv = program.input('qkv', [rows, 3 * width], 'f16');
  const dOut = program.input('d_out', [rows, width], 'f16');
  const delta = program.input('delta', [heads, rows]);
  program.write(qkv, qkvData);
  program.write(dOut, dOutData);
  program.write(delta, Float32Array.from(slopes.delta));
  const out = program.keep(program.intermediate('out', [rows, width], 'f16'));
  const lse = program.keep(program.intermediate('lse', [heads, rows]));
  const dQkv = program.keep(program.intermediate('d_qkv', [rows, 3 * width], 'f16'));
  const forward = forwardKernel.layoutOf(params, caps, 'forward', choice);
  const backward = forwardKernel.layoutOf(params, caps, 'backward', { apart: choice.apart });
  program.dispatch(forwardKernel.plan(params, caps, forward), [qkv, table(forward), out, lse]);
  const tensors = [qkv, table(backward), dOut, lse, delta, dQkv];
  program.dispatch(backwardQKernel.plan(params, caps, backward), tensors);
  program.dispatch(backwardKvKernel.plan(params, caps, backward), tensors);
  await program.compile({ guard: true });
  program.run();
  const first = await program.readAll([out, lse, dQkv]);
  program.run();
  const second = await program.readAll([out, lse, dQkv]);
  allClose(t, first[0], expected.out, `${name}: forward`, { absolute: 1e-3, relative: 1e-3 });
  allClose(t, first[1], expected.lse, `${name}: log-sum-exp`, { absolute: 1e-5, relative: 2e-6 });
  allClose(t, first[2], slopes.dQkv, `${name}: gradient`, { absolute: 1e-3, relative: 2e-3 });
  t.deepEqual(await program.checkGuards(), [], `${name}: nothing written past a tensor`);
  first.forEach((data, i) => {
    sameBits(t, data, second[i], `${name}: the same bits twice (${['out', 'lse', 'd_qkv'][i]})`);
  });
  program.dispose();
}

// Uniform in ±a, a score has the standard deviation a² / 3 at any head dim: of 20, so that shifts move.
const SIGMA_20 = Math.sqrt(60);
const ODD: PackedSequences = [
  { count: 1, length: 261 },
  { count: 1, length: 50 },
  { count: 1, length: 1 },
];
const TIGHT = { apart: false, met: 16 } as const;
const WIDE = { apart: false, met: 32 } as const;
type Case = [name: string, params: AttentionParams, amplitude: number, choice?: Parameters<typeof check>[5]];
/** Few different head dims: software adapters compile each kernel for some seconds. */
const casesOf = (wide: number, narrow: number): Case[] => [
  [`2 × ${wide}, crops`, { heads: 2, headDim: wide, sequences: CROPS }, 1.5],
  [`2 × ${wide}, scores of σ 20`, { heads: 2, headDim: wide, sequences: ODD }, SIGMA_20],
  [`3 × ${narrow}, short sequences, tight`, { heads: 3, headDim: narrow, sequences: SHORT }, 1.5, TIGHT],
  [`3 × ${narrow}, scores of σ 20, tight`, { heads: 3, headDim: narrow, sequences: ODD }, SIGMA_20, TIGHT],
  [`3 × ${narrow}, scores of σ 20, 32 keys`, { heads: 3, headDim: narrow, sequences: ODD }, SIGMA_20, WIDE],
];
/** Opened once, for its pipelines. */
let emulated: Gpu | undefined;

for (const [name, params, amplitude, choice] of [
  ['3 × 16, crops', { heads: 3, headDim: 16, sequences: CROPS }, 1.5] as Case,
  ...casesOf(64, 16),
]) {
  test(`attention on subgroup matrices: ${name}`, async (t) =>
    check(t, await testGpu(), name, params, amplitude, choice));
}

for (const [name, params, amplitude, choice] of casesOf(64, 32)) {
  test(`attention on emulated matrices of 16 × 16 × 16: ${name}`, async (t) => {
    const gpu = await testGpu();
    if (/llvmpipe/.test(gpu.capabilities.description)) {
      t.skip(`${name}: llvmpipe compiles the emulation for minutes; SwiftShader and GPUs run this test`);
      return;
    }
    emulated ??= emulateMatrices(gpu, { M: 16, N: 16, K: 16 }, 32);
    await check(t, emulated, `emulated ${name}`, params, amplitude, choice);
  });
}
