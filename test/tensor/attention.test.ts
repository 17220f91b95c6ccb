import test from 'tape';
import * as attentionKernel from '../../kernels/attention.js';
import { GpuError } from '../../src/errors.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { attention } from '../../src/tensor/attention.js';
import { Graph } from '../../src/tensor/graph.js';
import { type PackedSequences, startOfGroup, totalRows } from '../../src/tensor/sequences.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
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

test('attention plans', (t) => {
  for (const caps of [BASELINE_CAPABILITIES, { ...BASELINE_CAPABILITIES, software: true }]) {
    for (const [heads, headDim] of [
      [1, 8],
      [3, 64],
      [2, 128],
    ]) {
      const params = { heads, headDim, sequences: [...CROPS, { count: 1, length: 1 }, { count: 1, length: 261 }] };
      const { own, met, units } = attentionKernel.tileShape(params, caps);
      const name = `${caps.software ? 'CPU' : 'GPU'} ${heads} × ${headDim}`;
      t.ok(own * met * units <= 64 && own * met * units * 9 * 16 <= 16384, `${name}: workgroups within the limits`);
      const table = attentionKernel.tileTable(params, caps);
      const seen: number[] = [];
      let inside = true;
      for (let i = 0; i < table.length; i += 4) {
        const [start, end, first, last] = table.subarray(i, i + 4);
        for (let row = first; row < last; row++) seen.push(row);
        inside &&= start <= first && last <= end && last - first <= 4 * own;
      }
      t.ok(inside, `${name}: every tile lies in its sequence`);
      t.deepEqual(
        seen,
        Array.from({ length: 311 }, (_, i) => i),
        `${name}: every row belongs to one tile`,
      );
      const plan = attentionKernel.plan(params, caps);
      t.equal(
        plan.grid[0],
        (table.length / 4) * Math.ceil(heads / units),
        `${name}: a workgroup for each tile and heads`,
      );
      t.equal(plan.flops, 4 * heads * headDim * (2 * 17 ** 2 + 3 * 5 ** 2 + 1 + 261 ** 2), `${name}: FLOPs`);
    }
  }
  for (const headDim of [4, 12, 136]) {
    t.throws(
      () => attentionKernel.plan({ heads: 1, headDim, sequences: CROPS }, BASELINE_CAPABILITIES),
      GpuError,
      `a head dim of ${headDim} is refused`,
    );
  }
  t.end();
});

function check(name: string, heads: number, headDim: number, sequences: PackedSequences, amplitude = 1.5) {
  const rows = totalRows(sequences);
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
    });
  });
}

check('2 × 8, sequences of 17 and 5', 2, 8, CROPS);
check('2 × 8, one sequence of 257', 2, 8, [{ count: 1, length: 257 }]);
check('2 × 8, sequences of 50 and 261', 2, 8, [
  { count: 2, length: 50 },
  { count: 1, length: 261 },
]);
check('2 × 8, sequences of 1', 2, 8, [{ count: 3, length: 1 }]);
check('3 × 16, sequences of 17 and 5', 3, 16, CROPS);
check('1 × 24, sequences of 5 and 17', 1, 24, [...CROPS].reverse());
check('2 × 64, sequences of 17 and 5', 2, 64, CROPS);
check('1 × 72, sequences of 17 and 5', 1, 72, CROPS);
check('1 × 128, sequences of 17 and 5', 1, 128, CROPS);
// Uniform in ±a, a score has the standard deviation a² / 3 at any head dim: 20 here, so most rows see one key.
check('2 × 64, scores of σ 20', 2, 64, CROPS, Math.sqrt(60));

/** Output and gradient of one attention, with the tiles for the given kind of adapter. */
async function run(gpu: Gpu, software: boolean, sequences: PackedSequences): Promise<Float32Array[]> {
  const seen: Gpu = Object.create(gpu, { capabilities: { value: { ...gpu.capabilities, software } } });
  const [heads, headDim] = [2, 64];
  const rows = totalRows(sequences);
  const program = new Program(seen, 'attention tiles');
  const graph = new Graph(program);
  const qkv = program.input('qkv', [rows, 3 * heads * headDim]);
  qkv.requiresGrad = true;
  program.write(
    qkv,
    noise(qkv.elements, 51).map((v) => 2 * v),
  );
  const out = program.keep(attention(graph, qkv, heads, sequences));
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

test('attention with the tiles for GPUs and with those for CPU adapters', async (t) => {
  const gpu = await testGpu();
  const sequences = [{ count: 1, length: 65 }, ...CROPS];
  const [wide, narrow] = [await run(gpu, false, sequences), await run(gpu, true, sequences)];
  allClose(t, wide[0], narrow[0], 'the same output');
  allClose(t, wide[1], narrow[1], 'the same gradient');
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
