import test from 'tape';
import * as gemm from '../../kernels/gemm.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import { Program } from '../../src/gpu/program.js';
import { linear, mlp } from '../../src/tensor/linear.js';
import { Graph } from '../../src/tensor/graph.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/linear.js';

test('the oracle has the golden values of GELU', (t) => {
  [-2, -0.5, 0, 0.7, 3].forEach((x, i) => {
    const golden = [-0.0455, -0.154269, 0, 0.530625, 2.99595][i];
    t.ok(Math.abs(oracle.gelu(x) - golden) < 1e-5, `gelu(${x}) = ${golden}`);
  });
  t.ok(Math.abs(oracle.erf(3.2) - 0.999993974238848) < 1e-13, 'erf(3.2)');
  t.end();
});

for (const [R, N, K] of [
  [1, 4, 1],
  [50, 24, 40],
  [17, 36, 21],
  [261, 72, 64],
  [600, 8, 12],
]) {
  test(`linear [${R}, ${K}] x [${N}, ${K}]`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      half: N % 4 === 0 && K % 4 === 0,
      name: `linear ${R}x${N}x${K}`,
      inputs: {
        x: { shape: [R, K], data: noise(R * K, 1) },
        weight: { shape: [N, K], data: noise(N * K, 2), weight: true },
        bias: { shape: [N], data: noise(N, 3), weight: true },
      },
      build: (graph, { x, weight, bias }) => linear(graph, x, weight, bias),
      oracle: ({ x, weight, bias }) => oracle.linear(x, weight, bias, K),
    });
  });
}

for (const [R, K, H, N] of [
  [5, 7, 12, 4],
  [50, 32, 128, 32],
]) {
  test(`gelu mlp [${R}, ${K}] -> ${H} -> ${N}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      half: N % 4 === 0 && K % 4 === 0,
      name: `mlp ${R}x${K}x${H}x${N}`,
      inputs: {
        x: { shape: [R, K], data: noise(R * K, 1).map((v) => 2 * v) },
        w1: { shape: [H, K], data: noise(H * K, 2).map((v) => v / 2), weight: true },
        b1: { shape: [H], data: noise(H, 3), weight: true },
        w2: { shape: [N, H], data: noise(N * H, 4).map((v) => v / 4), weight: true },
        b2: { shape: [N], data: noise(N, 5), weight: true },
      },
      build: (graph, { x, w1, b1, w2, b2 }) =>
        mlp(graph, x, [
          { weight: w1, bias: b1 },
          { weight: w2, bias: b2 },
        ]),
      oracle: ({ x, w1, b1, w2, b2 }) => oracle.linear(oracle.linear(x, w1, b1, K).map(oracle.gelu), w2, b2, H),
    });
  });
}

test('every layout and variant of gemm, with sizes on both sides of the tiles', async (t) => {
  const gpu = await testGpu();
  for (const layout of ['NN', 'NT', 'TN'] as const) {
    for (const variant of ['tiled', 'direct'] as const) {
      for (const [M, N, K, parts] of [
        [4, 4, 4, 1],
        [64, 64, 16, 1],
        [68, 132, 300, 1],
        [52, 60, 1028, 3],
        [65, 63, 257, 2],
      ]) {
        if (variant === 'direct' && !gpu.capabilities.subgroups) continue;
        if (variant === 'direct' && [M, N, layout === 'TN' ? 4 : K].some((size) => size % 4 !== 0)) continue;
        const halves = [M, N, K].every((size) => size % 4 === 0);
        for (const operands of halves ? (['f32', 'f16'] as const) : (['f32'] as const)) {
          const program = new Program(gpu, 'gemm');
          const stored = (data: Float32Array): Float32Array => (operands === 'f16' ? fromHalf(toHalf(data)) : data);
          const a = stored(noise(M * K, 1));
          const b = stored(noise(K * N, 2));
          const out = program.keep(program.intermediate('out', [parts, M, N]));
          const inputs = [program.input('a', [M * K], operands), program.input('b', [K * N], operands)];
          const plan = gemm.plan({ layout, M, N, K, parts, variant, operands }, gpu.capabilities);
          program.dispatch(plan, [...inputs, inputs[0], inputs[0], inputs[0], out]);
          await program.compile({ guard: true });
          program.write(inputs[0], a);
          program.write(inputs[1], b);
          program.run();
          const result = await program.read(out);
          const sums = new Float64Array(M * N);
          for (let p = 0; p < parts; p++) for (let i = 0; i < M * N; i++) sums[i] += result[p * M * N + i];
          const expected = new Float64Array(M * N);
          for (let m = 0; m < M; m++) {
            for (let n = 0; n < N; n++) {
              for (let k = 0; k < K; k++) {
                expected[m * N + n] +=
                  a[layout === 'TN' ? k * M + m : m * K + k] * b[layout === 'NT' ? n * K + k : k * N + n];
              }
            }
          }
          allClose(t, sums, expected, `${layout} ${variant} ${operands} [${M}, ${N}, ${K}] in ${parts}`, {
            relative: 1e-5,
          });
          t.deepEqual(await program.checkGuards(), [], 'nothing written past the result');
          program.dispose();
        }
      }
    }
  }
});

test('linear with residual and LayerScale in the epilogue', async (t) => {
  const gpu = await testGpu();
  const program = new Program(gpu, 'linear_residual');
  const graph = new Graph(program);
  const [R, N, K] = [19, 20, 12];
  const data = { x: noise(R * K, 1), w: noise(N * K, 2), b: noise(N, 3), r: noise(R * N, 4), g: noise(N, 5) };
  const out = program.keep(
    linear(
      graph,
      program.constant('x', [R, K], data.x),
      program.constant('w', [N, K], data.w),
      program.constant('b', [N], data.b),
      {
        stream: program.constant('r', [R, N], data.r),
        gamma: program.constant('g', [N], data.g),
      },
    ),
  );
  await program.compile({ guard: true });
  program.run();
  const branch = oracle.linear(data.x, data.w, data.b, K);
  allClose(
    t,
    await program.read(out),
    branch.map((v, i) => data.r[i] + data.g[i % N] * v),
    'residual + gamma * linear',
  );
  program.dispose();
});

test('gemm adds to what its result holds', async (t) => {
  const gpu = await testGpu();
  for (const [M, N, K] of [
    [12, 20, 8],
    [5, 7, 9],
  ]) {
    const program = new Program(gpu, 'gemm add');
    const [a, b] = [program.constant('a', [K, M], noise(K * M, 1)), program.constant('b', [K, N], noise(K * N, 2))];
    const sum = program.keep(program.intermediate('sum', [M, N]));
    const caps = gpu.capabilities;
    program.dispatch(gemm.plan({ layout: 'TN', M, N, K }, caps), [a, b, a, a, a, sum]);
    program.dispatch(gemm.plan({ layout: 'TN', M, N, K, epilogue: 'add' }, caps), [a, b, a, a, a, sum]);
    const once = program.keep(program.intermediate('once', [M, N]));
    program.dispatch(gemm.plan({ layout: 'TN', M, N, K }, caps), [a, b, a, a, a, once]);
    await program.compile({ guard: true });
    program.run();
    const [twice, single] = await program.readAll([sum, once]);
    allClose(
      t,
      twice,
      single.map((v) => 2 * v),
      `[${M}, ${N}] twice`,
    );
    t.deepEqual(await program.checkGuards(), [], 'nothing written past the result');
    program.dispose();
  }
});

test('gemm plans', (t) => {
  const software = { ...BASELINE_CAPABILITIES, software: true, subgroups: true };
  t.equal(gemm.plan({ layout: 'NT', M: 8, N: 8, K: 147 }, software).shader, 'gemm.wgsl', 'a ragged K is tiled');
  t.equal(
    gemm.plan({ layout: 'NT', M: 8, N: 8, K: 148 }, software).shader,
    'gemm_direct.wgsl',
    'an even one is direct',
  );
  t.equal(
    gemm.splitK({ layout: 'TN', M: 64, N: 64, K: 16448 }, BASELINE_CAPABILITIES),
    64,
    'one tile is split as far as K allows',
  );
  t.equal(
    gemm.splitK({ layout: 'TN', M: 4096, N: 4096, K: 16448 }, BASELINE_CAPABILITIES),
    1,
    'many tiles are not split',
  );
  t.throws(() => gemm.plan({ layout: 'TN', M: 8, N: 8, K: 512, parts: 2, bias: true }, software), /epilogue/);
  t.throws(() => gemm.plan({ layout: 'NT', M: 8, N: 8, K: 6, operands: 'f16' }, software), /half operands need/);
  t.throws(() => gemm.plan({ layout: 'NT', M: 8, N: 6, K: 8, result: 'f16' }, software), /half results take/);
  t.end();
});
