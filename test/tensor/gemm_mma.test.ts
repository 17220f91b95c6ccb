import test, { type Test } from 'tape';
import * as gemm from '../../kernels/gemm.js';
import type { GemmEpilogue, GemmLayout, GemmParams } from '../../kernels/gemm.js';
import * as gemmMma from '../../kernels/gemm_mma.js';
import { BASELINE_CAPABILITIES, type Capabilities, matrixConfig } from '../../src/gpu/capabilities.js';
import { GpuError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import { Program } from '../../src/gpu/program.js';
import type { Storage } from '../../src/gpu/tensor.js';
import { allClose, noise, sameBits, TENSOR_CORES, testGpu } from '../fixture.js';
import * as oracle from '../oracle/linear.js';

const LAYOUTS: readonly GemmLayout[] = ['NN', 'NT', 'TN'];
const TILES: readonly gemmMma.ColumnTiles[] = [4, 3];

const rounded = (data: Float32Array): Float32Array => fromHalf(toHalf(data)).slice(0, data.length);

interface Case extends GemmParams {
  readonly columnTiles: gemmMma.ColumnTiles;
}

/** The product of halves in float64. */
function product({ layout, M, N, K }: Case, a: Float32Array, b: Float32Array): Float64Array {
  const result = new Float64Array(M * N);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++) {
        sum += a[layout === 'TN' ? k * M + m : m * K + k] * b[layout === 'NT' ? n * K + k : k * N + n];
      }
      result[m * N + n] = sum;
    }
  }
  return result;
}

/** Runs a gemm twice between operands that end in NaNs, and compares it with the oracle. */
async function check(t: Test, gpu: Gpu, params: Case): Promise<void> {
  const { layout, M, N, K, bias = false, epilogue = 'none', result = 'f32', parts = 1, columnTiles } = params;
  const name = `${layout} [${M}, ${N}, ${K}]${parts > 1 ? ` in ${parts}` : ''}, ${columnTiles} columns of matrices${
    bias ? ', bias' : ''
  }, ${epilogue}, ${result}`;
  const stored = (data: Float32Array): Float32Array => (result === 'f16' ? rounded(data) : data);
  const program = new Program(gpu, 'gemm_mma');
  const data = {
    a: rounded(noise(M * K, 1)),
    b: rounded(noise(K * N, 2)),
    bias: noise(N, 3),
    extra: stored(noise(M * N, 4)),
    gamma: noise(N, 5),
  };
  const nans = (after: string): void => {
    const tensor = program.input(`after ${after}`, [64]);
    program.write(tensor, new Float32Array(64).fill(Number.NaN));
  };
  const input = (key: keyof typeof data, dtype: Storage) => {
    const tensor = program.input(key, [data[key].length], dtype);
    program.write(tensor, data[key]);
    nans(key);
    return tensor;
  };
  const inputs = [
    input('a', 'f16'),
    input('b', 'f16'),
    input('bias', 'f32'),
    input('extra', result),
    input('gamma', 'f32'),
  ];
  const out = program.keep(program.intermediate('out', [parts, M, N], result));
  const kept = epilogue === 'geluKeep' ? [program.keep(program.intermediate('kept', [M, N], result))] : [];
  if (epilogue === 'add') {
    program.dispatch(gemmMma.plan({ ...params, epilogue: 'none' }, gpu.capabilities, columnTiles), [...inputs, out]);
  }
  program.dispatch(gemmMma.plan(params, gpu.capabilities, columnTiles), [...inputs, out, ...kept]);
  await program.compile({ guard: true });
  program.run();
  const first = await program.readAll([out, ...kept]);
  program.run();
  const second = await program.readAll([out, ...kept]);
  t.deepEqual(await program.checkGuards(), [], `${name}: nothing written past the result`);
  program.dispose();
  first.forEach((values, i) => {
    sameBits(t, values, second[i], `${name}: the same bits twice`);
  });
  const biased = product(params, data.a, data.b).map((v, i) => v + (bias ? data.bias[i % N] : 0));
  const expected = biased.map((v, i) => {
    const x = data.extra[i];
    if (epilogue === 'gelu' || epilogue === 'geluKeep') return oracle.gelu(v);
    if (epilogue === 'geluBackward') {
      return v * (0.5 * (1 + oracle.erf(x / Math.SQRT2)) + (x * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI));
    }
    if (epilogue === 'residual') return x + data.gamma[i % N] * v;
    // What it is added to is the same product.
    return epilogue === 'add' ? 2 * v : v;
  });
  const sums = new Float64Array(M * N);
  first[0].forEach((value, i) => {
    sums[i % (M * N)] += value;
  });
  const tolerance = result === 'f16' ? { absolute: 1e-6, relative: 1e-3 } : { absolute: 1e-6, relative: 1e-5 };
  allClose(t, sums, expected, name, tolerance);
  if (first[1]) allClose(t, first[1], biased, `${name}: kept`, tolerance);
}

async function gpuWithMatrices(t: Test): Promise<Gpu | undefined> {
  const gpu = await testGpu();
  if (matrixConfig(gpu.capabilities)) return gpu;
  t.skip(`${gpu.capabilities.description} has no subgroup matrices of halves with float32 sums`);
  return undefined;
}

test('gemm on subgroup matrices: layouts, tiles and ragged sizes', async (t) => {
  const gpu = await gpuWithMatrices(t);
  if (!gpu) return;
  // M, N, K, parts. With matrices of 8 x 8 a tile is 64 rows by 64 or 48 columns, and takes 16 k.
  const shapes: Record<GemmLayout, readonly (readonly [number, number, number, number])[]> = {
    NN: [
      [1, 8, 8, 1],
      [50, 48, 40, 1],
      [257, 384, 264, 1],
      [261, 136, 264, 3],
      [64, 96, 32, 4],
    ],
    NT: [
      [1, 4, 8, 1],
      [50, 44, 40, 1],
      [257, 136, 264, 1],
      [261, 100, 264, 3],
      [128, 96, 16, 1],
    ],
    TN: [
      [8, 8, 1, 1],
      [48, 96, 50, 1],
      [264, 136, 257, 1],
      [136, 384, 261, 3],
      [64, 48, 40, 7],
    ],
  };
  for (const layout of LAYOUTS) {
    for (const columnTiles of TILES) {
      for (const [M, N, K, parts] of shapes[layout]) {
        await check(t, gpu, { layout, M, N, K, parts, operands: 'f16', columnTiles });
      }
    }
  }
});

test('gemm on subgroup matrices: epilogues and result storages', async (t) => {
  const gpu = await gpuWithMatrices(t);
  if (!gpu) return;
  const epilogues: readonly GemmEpilogue[] = ['none', 'gelu', 'geluKeep', 'geluBackward', 'residual', 'add'];
  const results: readonly Storage[] = ['f32', 'f16'];
  for (const [e, epilogue] of epilogues.entries()) {
    for (const [r, result] of results.entries()) {
      // The epilogue knows neither layout nor tile: one of each will do.
      const layout = LAYOUTS[(e + r) % 3];
      const columnTiles = TILES[(e + r) % 2];
      const bias = epilogue !== 'geluBackward' && epilogue !== 'add';
      await check(t, gpu, { layout, M: 136, N: 72, K: 40, operands: 'f16', bias, epilogue, result, columnTiles });
    }
  }
});

test('the plan of a gemm on subgroup matrices', (t) => {
  const params = { layout: 'NN', M: 16448, N: 1152, K: 384, operands: 'f16' } as const;
  t.deepEqual(matrixConfig(TENSOR_CORES), TENSOR_CORES.subgroupMatrices[2], 'the largest matrices with float32 sums');
  t.notOk(matrixConfig({ ...TENSOR_CORES, subgroupMinSize: 16 }), 'none where subgroups have several sizes');
  t.notOk(matrixConfig({ ...TENSOR_CORES, shaderF16: false }), 'none without halves');
  t.notOk(
    matrixConfig({
      ...TENSOR_CORES,
      subgroupMatrices: [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 4 }],
    }),
    'none whose rows are no whole vectors',
  );

  t.ok(gemmMma.fits(params, TENSOR_CORES), 'fits');
  const misfits: [string, GemmParams, Capabilities][] = [
    ['float32 operands', { ...params, operands: 'f32' }, TENSOR_CORES],
    ['operands by default', { ...params, operands: undefined }, TENSOR_CORES],
    ['no matrices', params, BASELINE_CAPABILITIES],
    ['little workgroup memory', params, { ...TENSOR_CORES, maxWorkgroupMemoryBytes: 16384 }],
    ['small workgroups', params, { ...TENSOR_CORES, maxInvocationsPerWorkgroup: 64 }],
    ['K of NN', { ...params, K: 388 }, TENSOR_CORES],
    ['N of NN', { ...params, N: 1156 }, TENSOR_CORES],
    ['K of NT', { ...params, layout: 'NT', K: 388 }, TENSOR_CORES],
    ['N of NT', { ...params, layout: 'NT', N: 1154 }, TENSOR_CORES],
    ['M of TN', { ...params, layout: 'TN', M: 16444 }, TENSOR_CORES],
    ['N of TN', { ...params, layout: 'TN', N: 1156 }, TENSOR_CORES],
  ];
  for (const [name, given, caps] of misfits) {
    t.notOk(gemmMma.fits(given, caps), `does not fit: ${name}`);
    t.throws(() => gemmMma.plan(given, caps, 4), GpuError, `is refused: ${name}`);
  }
  t.ok(gemmMma.fits({ ...params, layout: 'NT', N: 1156 }, TENSOR_CORES), 'NT: N only needs whole quads');
  t.ok(gemmMma.fits({ ...params, layout: 'TN', K: 257 }, TENSOR_CORES), 'TN: any K');
  t.throws(() => gemmMma.plan({ ...params, parts: 2, bias: true }, TENSOR_CORES), RangeError, 'parts have no epilogue');

  t.deepEqual(gemmMma.tile(params, TENSOR_CORES), [128, 128], 'wide tiles where they keep the GPU busy');
  t.deepEqual(
    gemmMma.tile({ ...params, N: 384 }, TENSOR_CORES),
    [128, 96],
    'narrow ones where wide ones leave it idle',
  );
  t.deepEqual(gemmMma.tile({ ...params, M: 384, N: 384 }, TENSOR_CORES), [128, 128], 'wide ones where K can be split');
  const plan = gemmMma.plan({ ...params, N: 384 }, TENSOR_CORES);
  t.deepEqual(plan.grid, [4, 129, 1], 'grid');
  t.deepEqual(plan.parameters, [16448, 384, 384, 384], 'sizes');
  const weights = { layout: 'TN', M: 384, N: 1536, K: 16449, operands: 'f16', parts: 7 } as const;
  t.deepEqual(gemmMma.plan(weights, TENSOR_CORES).grid, [12, 3, 7], 'grid in parts');
  t.equal(gemmMma.plan(weights, TENSOR_CORES).parameters?.[3], 2368, 'parts hold whole slices');
  t.equal(gemm.plan(params, TENSOR_CORES).shader, 'gemm_mma.wgsl', 'gemm takes it where it fits');
  t.equal(gemm.plan({ ...params, operands: 'f32' }, TENSOR_CORES).shader, 'gemm.wgsl', 'and not where it does not');
  t.equal(
    gemm.plan({ ...params, variant: 'tiled' }, TENSOR_CORES).shader,
    'gemm.wgsl',
    'nor where another is asked for',
  );
  t.equal(gemm.plan(params, { ...TENSOR_CORES, software: true }).shader, 'gemm_direct.wgsl', 'nor on a CPU');
  t.equal(gemm.splitK({ ...weights, parts: undefined }, TENSOR_CORES), 7, 'K is split by the number of its tiles');
  // Past 24 KiB only one workgroup fits on a multiprocessor of the GPU this was written for.
  for (const layout of LAYOUTS) {
    for (const columnTiles of TILES) {
      const { MMA_BLOCK } = gemmMma.plan({ ...params, layout }, TENSOR_CORES, columnTiles).prelude;
      t.ok(64 * Number(MMA_BLOCK) <= 24 * 1024, `${layout}, ${columnTiles}: ${64 * Number(MMA_BLOCK)} bytes`);
    }
  }
  t.end();
});
