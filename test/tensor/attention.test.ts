import test from 'tape';
import * as tiled from '../../kernels/attention.js';
import * as direct from '../../kernels/attention_direct.js';
import { GpuError } from '../../src/errors.js';
import { BASELINE_CAPABILITIES, type Capabilities } from '../../src/gpu/capabilities.js';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { type AttentionFamily, attention, attentionFamily } from '../../src/tensor/attention.js';
import { Graph } from '../../src/tensor/graph.js';
import { type PackedSequences, startOfGroup, totalRows } from '../../src/tensor/sequences.js';
import { allClose, checkOperator, noise, plannedAsHardware, testGpu } from '../fixture.js';
import * as oracle from '../oracle/attention.js';

const CROPS: PackedSequences = [
  { count: 2, length: 17 },
  { count: 3, length: 5 },
];

test('packed sequences', (t) => {
  t.equal(totalRows(CROPS), 49, 'rows of all groups');
  t.deepEqual(
    [0, 1, 2].map((i) => startOfGroup(CROPS, i)),
    [0, 34, 49],
    'the groups lie one after the other',
  );
  t.throws(() => totalRows([{ count: 2, length: 0 }]), /positive/, 'an empty sequence is refused');
  t.end();
});

/** Adapters that run on a CPU, with subgroups of a size and without. */
const CPU: Capabilities = { ...BASELINE_CAPABILITIES, software: true };
function withLanes(lanes: number): Capabilities {
  return { ...CPU, subgroups: true, subgroupMinSize: lanes, subgroupMaxSize: lanes };
}

test('attention families', (t) => {
  const params = { heads: 2, headDim: 64, sequences: CROPS };
  t.equal(attentionFamily(params, 'f32', BASELINE_CAPABILITIES), 'tiled', 'a GPU without subgroup matrices');
  t.equal(attentionFamily(params, 'f16', CPU), 'tiled', 'a CPU adapter without subgroups');
  for (const lanes of [4, 8, 16]) {
    t.equal(attentionFamily(params, 'f16', withLanes(lanes)), 'direct', `a CPU adapter with subgroups of ${lanes}`);
  }
  const wide = { ...params, headDim: 128 };
  t.equal(attentionFamily(wide, 'f32', withLanes(4)), 'tiled', 'heads of 128 are too wide for 4 lanes');
  t.equal(attentionFamily(wide, 'f32', withLanes(8)), 'direct', 'but not for 8');
  t.end();
});

test('attention plans', (t) => {
  const sequences = [...CROPS, { count: 1, length: 1 }, { count: 1, length: 261 }];
  for (const [heads, headDim] of [
    [1, 8],
    [3, 64],
    [2, 128],
  ]) {
    const params = { heads, headDim, sequences };
    const families = [
      ...[BASELINE_CAPABILITIES, CPU].map((caps) => {
        const { own, met, units } = tiled.tileShape(params, caps);
        const name = `${caps.software ? 'CPU' : 'GPU'} ${heads} × ${headDim}`;
        t.ok(own * met * units <= 64 && own * met * units * 9 * 16 <= 16384, `${name}: workgroups within the limits`);
        return { name, rows: tiled.ownedRows(params, caps), units, plan: tiled.plan(params, caps) };
      }),
      {
        name: `direct ${heads} × ${headDim}`,
        rows: direct.OWNED_ROWS,
        units: 1,
        plan: direct.plan(params, withLanes(8)),
      },
    ];
    for (const { name, rows, units, plan } of families) {
      const table = tiled.sequenceTiles(sequences, rows);
      const seen: number[] = [];
      let inside = true;
      for (let i = 0; i < table.length; i += 4) {
        const [start, end, first, last] = table.subarray(i, i + 4);
        for (let row = first; row < last; row++) seen.push(row);
        inside &&= start <= first && last <= end && last - first <= rows;
      }
      t.ok(inside, `${name}: every tile lies in its sequence`);
      t.deepEqual(
        seen,
        Array.from({ length: 311 }, (_, i) => i),
        `${name}: every row belongs to one tile`,
      );
      t.equal(
        plan.grid[0],
        (table.length / 4) * Math.ceil(heads / units),
        `${name}: a workgroup for each tile and heads`,
      );
      t.equal(plan.flops, 4 * heads * headDim * (2 * 17 ** 2 + 3 * 5 ** 2 + 1 + 261 ** 2), `${name}: FLOPs`);
    }
  }
  const bytes = (storage: 'f32' | 'f16') =>
    tiled.plan({ heads: 2, headDim: 8, sequences: CROPS, storage }, BASELINE_CAPABILITIES).bytes;
  t.deepEqual([bytes('f32'), bytes('f16')], [49 * 2 * (4 * 32 + 4), 49 * 2 * (2 * 32 + 4)], 'bytes of both storages');
  for (const headDim of [4, 12, 136]) {
    t.throws(
      () => tiled.plan({ heads: 1, headDim, sequences: CROPS }, BASELINE_CAPABILITIES),
      GpuError,
      `a head dim of ${headDim} is refused`,
    );
  }
  t.end();
});

interface Also {
  readonly amplitude?: number;
  readonly half?: boolean;
  readonly hardwareToo?: boolean;
}

function check(name: string, heads: number, headDim: number, sequences: PackedSequences, also: Also = {}) {
  const rows = totalRows(sequences);
  const { amplitude = 1.5, half = false, hardwareToo = false } = also;
  test(`attention ${name}`, async (t) => {
    await checkOperator(t, {
      name: `attention ${name}`,
      inputs: {
        qkv: {
          shape: [rows, 3 * heads * headDim],
          data: noise(rows * 3 * heads * headDim, 41).map((v) => amplitude * v),
        },
      },
      build: (graph, { qkv }) => attention(graph, qkv, heads, sequences),
      oracle: ({ qkv }) => oracle.attention(qkv, heads, headDim, sequences).out,
      half,
      hardwareToo,
    });
  });
}

check('2 × 8, sequences of 17 and 5', 2, 8, CROPS);
check('2 × 8, one sequence of 257', 2, 8, [{ count: 1, length: 257 }]);
const LONG = [
  { count: 2, length: 50 },
  { count: 1, length: 261 },
];
check('2 × 8, sequences of 50 and 261', 2, 8, LONG, { half: true, hardwareToo: true });
check('2 × 8, sequences of 1', 2, 8, [{ count: 3, length: 1 }], { half: true });
check('3 × 16, sequences of 17 and 5', 3, 16, CROPS);
check('1 × 24, sequences of 5 and 17', 1, 24, [...CROPS].reverse());
check('2 × 64, sequences of 17 and 5', 2, 64, CROPS, { half: true });
check('1 × 72, sequences of 17 and 5', 1, 72, CROPS);
check('1 × 128, sequences of 17 and 5', 1, 128, CROPS);
// Uniform in ±a, a score has the standard deviation a² / 3 at any head dim: 20 here, so most rows see one key.
check('2 × 64, scores of σ 20', 2, 64, CROPS, { amplitude: Math.sqrt(60) });

/** Output and gradient of one attention by the kernels of a family. */
async function run(gpu: Gpu, sequences: PackedSequences, family?: AttentionFamily): Promise<Float32Array[]> {
  const [heads, headDim] = [2, 64];
  const rows = totalRows(sequences);
  const program = new Program(gpu, 'attention family');
  const graph = new Graph(program);
  const qkv = program.input('qkv', [rows, 3 * heads * headDim]);
  qkv.requiresGrad = true;
  program.write(
    qkv,
    noise(qkv.elements, 51).map((v) => 2 * v),
  );
  const out = program.keep(attention(graph, qkv, heads, sequences, family));
  graph.backward([[out, program.constant('seed', out.shape, noise(out.elements, 52))]]);
  const gradient = program.keep(graph.gradientOf(qkv)!);
  await program.compile({ guard: true });
  program.run();
  const results = await program.readAll([out, gradient]);
  const torn = await program.checkGuards();
  program.dispose();
  if (torn.length > 0) throw new Error(`written past ${torn}`);
  return results as Float32Array[];
}

test('attention with the tiles for GPUs, with those for CPU adapters, and by the fastest family', async (t) => {
  const gpu = await testGpu();
  const sequences = [{ count: 1, length: 65 }, ...CROPS];
  const wide = await run(plannedAsHardware(gpu), sequences, 'tiled');
  for (const family of ['tiled', undefined] as const) {
    const other = await run(gpu, sequences, family);
    allClose(t, other[0], wide[0], `${family ?? 'fastest'}: the same output`);
    allClose(t, other[1], wide[1], `${family ?? 'fastest'}: the same gradient`);
  }
});

test('attention refuses what does not fit', async (t) => {
  const program = new Program(await testGpu(), 'refused');
  const graph = new Graph(program);
  const qkv = program.input('qkv', [49, 48]);
  t.throws(
    () => attention(graph, qkv, 2, [{ count: 2, length: 17 }]),
    /qkv \[49,48\] has 49 rows.*34/,
    'rows and sequences',
  );
  t.throws(() => attention(graph, qkv, 3, CROPS), GpuError, 'columns that are not q, k and v of the heads');
  program.dispose();
});
