import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { SECTIONS } from '../../bench/sections.js';
import { packageRoot } from '../../src/gpu/node_shaders.js';
import { plannedWithMatrices, testGpu } from '../fixture.js';

test('every kernel has a bench entry', async (t) => {
  const gpu = await testGpu();
  const kernels = ['', 'plain/'].flatMap((folder) =>
    readdirSync(join(packageRoot(), 'wgsl', folder))
      .filter((file) => file.endsWith('.wgsl'))
      .map((file) => folder + file.replace(/\.wgsl$/, '')),
  );
  const covered = new Set<string>();
  const before = gpu.memory.buffers;
  for (const { name, cases } of SECTIONS) {
    const seen = new Set<string>();
    // The small shapes, which every adapter has room for.
    for (const bench of cases({ ...gpu.capabilities, software: true })) {
      const key = `${bench.operator}, ${bench.shape}`;
      t.notOk(seen.has(key), `${name}: ${key}`);
      seen.add(key);
      // Cases on request are other sizes of what always runs.
      if (bench.onRequest) continue;
      for (const planned of [gpu, plannedWithMatrices(gpu)]) {
        const recorded = bench.record(planned);
        for (const kernel of recorded.program.kernelCounts.keys()) covered.add(kernel);
        recorded.dispose();
      }
    }
  }
  t.ok(kernels.length > 0, `${kernels.length} kernels in wgsl/`);
  t.deepEqual(
    kernels.filter((kernel) => !covered.has(kernel)),
    [],
    'kernels that no bench case dispatches',
  );
  t.equal(gpu.memory.buffers, before, 'a recording that is disposed of keeps no buffers');
});
