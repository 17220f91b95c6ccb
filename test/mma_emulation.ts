/**
 * Subgroup matrices of any size on any adapter, so that kernels written on lib/mma.wgsl can be checked with the sizes of
 * real tensor cores. Each invocation holds its share of a result and the row and columns it is made of; nothing is
 * exchanged but through the kernel's own workgroup memory. The invocations of such a "subgroup" do not run in step, so a
 * missing barrier shows.
 */

import type { Capabilities, SubgroupMatrixConfig } from '../src/gpu/capabilities.js';
import { Gpu } from '../src/gpu/device.js';
import type { ShaderLibrary } from '../src/gpu/shaders.js';

type Sizes = Pick<SubgroupMatrixConfig, 'M' | 'N' | 'K'>;

/**
 * lib/mma.wgsl without subgroup matrices. Of a result, an invocation has 4 or 8 neighbours of one row; of a left matrix that
 * row, of a right one those columns. Written out, because drivers for CPUs are slow with indexed arrays.
 */
function emulation({ M, N, K }: Sizes, subgroupSize: number): string {
  const share = (M * N) / subgroupSize;
  const quads = share / 4;
  const each = (count: number, line: (i: number) => string): string =>
    Array.from({ length: count }, (_, i) => `  ${line(i)}`).join('\n');
  const octet = (into: (element: number) => string): string =>
    Array.from({ length: 8 }, (_, i) => `${into(i)} = unpack2x16float(w.${'xyzw'[i >> 1]}).${'xy'[i % 2]};`).join(' ');
  const quad = (pair: string): string => `vec4<f32>(unpack2x16float(${pair}.x), unpack2x16float(${pair}.y))`;
  const load = (name: string, type: string, body: string): string =>
    `fn ${name}(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> ${type} {\n  var m = ${type}();\n${body}\n  return m;\n}`;
  return [
    'alias MmaBlock = array<vec4<u32>, MMA_BLOCK>;',
    `alias MmaLeft = array<vec4<f32>, ${K / 4}>;`,
    `alias MmaRight = array<vec4<f32>, ${K * quads}>;`,
    `alias MmaResult = array<vec4<f32>, ${quads}>;`,
    'var<private> emulated_row: u32;',
    'var<private> emulated_column: u32;',
    load(
      'mma_left_by_rows',
      'MmaLeft',
      each(
        K / 8,
        (u) =>
          `{ let w = (*block)[offset + emulated_row * stride + ${u}u]; m[${2 * u}] = ${quad('w.xy')}; m[${2 * u + 1}] = ${quad('w.zw')}; }`,
      ),
    ),
    load(
      'mma_left_by_columns',
      'MmaLeft',
      each(
        K,
        (k) =>
          `m[${k >> 2}][${k % 4}] = unpack2x16float((*block)[offset + ${k}u * stride + emulated_row / 8u][emulated_row / 2u % 4u])[emulated_row % 2u];`,
      ),
    ),
    load(
      'mma_right_by_rows',
      'MmaRight',
      each(K, (k) => {
        const word = `let w = (*block)[offset + ${k}u * stride + emulated_column / 8u];`;
        return quads === 2
          ? `{ ${word} m[${2 * k}] = ${quad('w.xy')}; m[${2 * k + 1}] = ${quad('w.zw')}; }`
          : `{ ${word} let h = select(w.xy, w.zw, emulated_column % 8u != 0u); m[${k}] = ${quad('h')}; }`;
      }),
    ),
    load(
      'mma_right_by_columns',
      'MmaRight',
      each((share * K) / 8, (i) => {
        const column = i % share;
        const u = Math.floor(i / share);
        return `{ let w = (*block)[offset + (emulated_column + ${column}u) * stride + ${u}u]; ${octet(
          (e) => `m[${(8 * u + e) * quads + (column >> 2)}][${column % 4}]`,
        )} }`;
      }),
    ),
    'fn mma_zero() -> MmaResult { return MmaResult(); }',
    'fn mma_add_product(sum: MmaResult, left: MmaLeft, right: MmaRight) -> MmaResult {\n  var m = sum;',
    each(K * quads, (i) => {
      const k = Math.floor(i / quads);
      return `m[${i % quads}] += left[${k >> 2}][${k % 4}] * right[${i}];`;
    }),
    '  return m;\n}',
    'fn mma_store(block: ptr<workgroup, MmaBlock>, offset: u32, result: MmaResult, stride: u32) {',
    '  let at = offset + emulated_row * stride + emulated_column / 4u;',
    each(quads, (j) => `(*block)[at + ${j}u] = bitcast<vec4<u32>>(result[${j}]);`),
    '}',
    load(
      'mma_load',
      'MmaResult',
      `  let at = offset + emulated_row * stride + emulated_column / 4u;\n${each(quads, (j) => `m[${j}] = bitcast<vec4<f32>>((*block)[at + ${j}u]);`)}`,
    ),
    // Scattered, so that no kernel happens to read only what the same invocation wrote.
    'fn emulate(lane: u32) {',
    `  let place = (5u * lane + 3u) % ${subgroupSize}u;`,
    `  emulated_row = place * ${share}u / ${N}u;`,
    `  emulated_column = place * ${share}u % ${N}u;`,
    '}',
  ].join('\n');
}

/**
 * The same adapter as if it had matrices of these sizes and subgroups of this size, and else what a GPU with them has.
 * For kernels with workgroups of subgroupSize × n invocations, each row a subgroup, and no other subgroup operations.
 * @param subgroupSize M · N / 4 or M · N / 8
 */
export function emulateMatrices(gpu: Gpu, sizes: Sizes, subgroupSize: number): Gpu {
  const matrices = emulation(sizes, subgroupSize);
  const shaders: ShaderLibrary = {
    text(file) {
      if (file === 'lib/mma.wgsl') return matrices;
      const text = gpu.shaders.text(file);
      const id = /@builtin\(local_invocation_id\) (\w+)/.exec(text)?.[1];
      return id && text.includes('mma') ? text.replace(/(fn main\([^{]*\{)/, `$1\n  emulate(${id}.x);`) : text;
    },
  };
  const capabilities: Capabilities = {
    ...gpu.capabilities,
    description: `${gpu.capabilities.description}, ${sizes.M} × ${sizes.N} × ${sizes.K} emulated`,
    software: false,
    shaderF16: true,
    subgroups: true,
    subgroupMinSize: subgroupSize,
    subgroupMaxSize: subgroupSize,
    subgroupMatrices: [{ componentType: 'f16', resultComponentType: 'f32', ...sizes }],
  };
  return Object.create(Gpu.fromDevice(gpu.device, { shaders }), { capabilities: { value: capabilities } }) as Gpu;
}
