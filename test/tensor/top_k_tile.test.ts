import test from 'tape';
import * as topKTile from '../../kernels/top_k_tile.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import { Program } from '../../src/gpu/program.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { noise, sameBits, testGpu } from '../fixture.js';
import { bestOf } from '../oracle/top_k.js';

/** Tiles one after the other through the kernel; returns the lists, and those of a second run. */
async function merged(lines: Float32Array, queries: number, rows: number, columns: number, k: number) {
  const gpu = await testGpu();
  const program = new Program(gpu, `top ${k}`);
  const similarities = program.input('similarities', [queries, columns]);
  const tile = program.input('tile', [2], 'u32');
  const [values, indices] = (['f32', 'u32'] as const).map((dtype) => {
    const list = new Tensor(`list of ${dtype}`, [queries, k], dtype, 'persistent');
    list.placement = { buffer: gpu.storageBuffer(list.sizeBytes, list.name), offsetBytes: 0 };
    return list;
  });
  program.dispatch(topKTile.plan({ queries, columns, k }), [similarities, tile, values, indices]);
  await program.compile();
  const results: { values: Float32Array; rows: Uint32Array }[] = [];
  for (let repeat = 0; repeat < 2; repeat++) {
    for (let row = 0; row < rows; row += columns) {
      const valid = Math.min(columns, rows - row);
      // What lies beyond the last row must not count.
      const block = new Float32Array(queries * columns).fill(9);
      for (let q = 0; q < queries; q++) {
        block.set(lines.subarray(q * rows + row, q * rows + row + valid), q * columns);
      }
      program.write(similarities, block);
      program.write(tile, Uint32Array.of(row, valid));
      program.run();
    }
    const [foundValues, foundRows] = await program.readAll([values, indices]);
    results.push({ values: foundValues as Float32Array, rows: foundRows as Uint32Array });
  }
  program.dispose();
  for (const list of [values, indices]) gpu.destroyBuffer(list.place().buffer);
  return results;
}

for (const [queries, rows, columns, k] of [
  [1, 1, 1, 1],
  [5, 261, 64, 10],
  [3, 2000, 1024, 256],
  [2, 257, 257, 200],
  [50, 50, 17, 50],
]) {
  for (const ties of [false, true]) {
    test(`top ${k} of ${rows} rows by tiles of ${columns}, ${queries} queries${ties ? ', many equal' : ''}`, async (t) => {
      const lines = noise(queries * rows, k).map((value) => (ties ? Math.round(4 * value) / 4 : value));
      const [first, second] = await merged(lines, queries, rows, columns, k);
      for (let q = 0; q < queries; q++) {
        const line = lines.subarray(q * rows, (q + 1) * rows);
        const expected = bestOf(line, k);
        const place = q * k;
        if (expected.some((row, i) => first.rows[place + i] !== row || first.values[place + i] !== line[row])) {
          t.deepEqual([...first.rows.subarray(place, place + k)], expected, `query ${q}: rows`);
        }
      }
      t.pass('rows and values of the oracle');
      sameBits(t, first.rows, second.rows, 'the same rows twice');
      sameBits(t, first.values, second.values, 'the same values twice');
    });
  }
}

test('top_k_tile: worst case, every tile better than the last', async (t) => {
  const [queries, rows, columns, k] = [2, 1500, 700, 100];
  const lines = Float32Array.from({ length: queries * rows }, (_, i) => (i % rows) / rows - 0.5);
  const [{ rows: found }] = await merged(lines, queries, rows, columns, k);
  t.deepEqual(
    [...found.subarray(k, 2 * k)],
    Array.from({ length: k }, (_, i) => rows - 1 - i),
    'the last rows, last first',
  );
});

test('top_k_tile: more is kept than rows have come', async (t) => {
  const [{ rows, values }] = await merged(Float32Array.of(0.5, 0.75), 1, 2, 4, 3);
  t.deepEqual([...rows], [1, 0, 0xffffffff], 'a place without a row');
  t.ok(values[2] < -1, 'ranks last');
});

test('top_k_tile plans', (t) => {
  t.throws(() => topKTile.plan({ queries: 1, columns: 1, k: 257 }), /lists of 257; it keeps 1 to 256/);
  t.throws(() => topKTile.plan({ queries: 1, columns: 1, k: 0 }), /lists of 0/);
  const { grid } = topKTile.plan({ queries: 100_000, columns: 64, k: 10 });
  t.ok(grid[0] <= 65535 && grid[0] * grid[1] >= 100_000, 'the grid is folded');
  t.ok(topKTile.selectsOnGpu(200, BASELINE_CAPABILITIES), 'hardware selects');
  t.notOk(topKTile.selectsOnGpu(257, BASELINE_CAPABILITIES), 'but not longer lists');
  t.notOk(topKTile.selectsOnGpu(10, { ...BASELINE_CAPABILITIES, software: true }), 'on a CPU the heap is faster');
  t.end();
});
