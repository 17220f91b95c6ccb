import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { runParity } from '../../src/eval/parity.js';
import { packageRoot } from '../../src/gpu/node_shaders.js';
import { encodeSafetensors, readSafetensors } from '../../src/io/safetensors.js';
import { testGpu } from '../fixture.js';

const GOLDENS = join(packageRoot(), '..', 'shared', 'goldens');

/** The cases that a test run has time for, on the slowest adapter. */
const SMALL = [
  'backbone_tiny',
  'backbone_tiny_masked',
  'backbone_tiny_reg',
  'backbone_tiny_swiglu',
  'components_small',
  'components_wide',
  'grad_tiny',
  'grad_tiny_swiglu_reg',
  'schedules',
  'step_long',
  'step_separate_head',
  'step_sk',
  'step_sk_droppath',
  'step_softmax',
];

function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-parity-'));
  return body(folder).finally(() => rmSync(folder, { recursive: true }));
}

test('golden cases of the PyTorch reference', { timeout: 600_000 }, async (t) => {
  if (!existsSync(GOLDENS)) {
    t.skip('the golden cases lie in ../shared, which is not beside the project');
    return;
  }
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    for (const name of SMALL) symlinkSync(join(GOLDENS, `${name}.safetensors`), join(folder, `${name}.safetensors`));
    const before = gpu.memory;
    const results = await runParity(gpu, folder);
    t.equal(results.length, SMALL.length, 'every case is run');
    for (const { name, status, reason, comparisons } of results) {
      const worst = comparisons.filter((c) => c.judged).sort((a, b) => b.share - a.share)[0];
      const detail = reason ?? `${worst?.name}: ${(100 * (worst?.share ?? 0)).toFixed(1)} % of the bound`;
      t.equal(status, 'pass', `${name} (${detail})`);
    }
    t.deepEqual(gpu.memory, before, 'programs and stores are all freed');
  });
});

test('golden training steps with logits in tiles of four rows', { timeout: 600_000 }, async (t) => {
  if (!existsSync(GOLDENS)) {
    t.skip('the golden cases lie in ../shared, which is not beside the project');
    return;
  }
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    // Both centrings, and rows that do not begin where a tensor may; all have 96 prototypes.
    for (const name of ['step_sk', 'step_softmax', 'step_separate_head'])
      symlinkSync(join(GOLDENS, `${name}.safetensors`), join(folder, `${name}.safetensors`));
    for (const { name, status, reason } of await runParity(gpu, folder, { lossTileBytes: 4 * 96 * 4 })) {
      t.equal(status, 'pass', reason ? `${name} (${reason})` : name);
    }
  });
});

test('parity sees a wrong answer, a foreign file, a case too large', async (t) => {
  if (!existsSync(GOLDENS)) {
    t.skip('the golden cases lie in ../shared, which is not beside the project');
    return;
  }
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    const golden = readSafetensors(readFileSync(join(GOLDENS, 'components_small.safetensors')));
    const spoil = (name: string, change: (values: Float32Array) => void, metadata: Record<string, string>): void => {
      const tensors = [...golden.tensors].map(([key, { dtype, shape, data }]) => {
        const copy = Uint8Array.from(data);
        if (key === 'head.dx') change(new Float32Array(copy.buffer));
        return [key, { dtype, shape, data: copy }] as const;
      });
      writeFileSync(join(folder, `${name}.safetensors`), encodeSafetensors(tensors, metadata));
    };
    spoil('wrong', (values) => values.fill(0.3, 0, 3), golden.metadata as Record<string, string>);
    spoil('right', () => undefined, golden.metadata as Record<string, string>);
    spoil('foreign', () => undefined, { case: '{"kind":"something else","seed":0}' });
    spoil('nothing', () => undefined, {});
    writeFileSync(join(folder, 'broken.safetensors'), 'not a file of this kind');
    symlinkSync(join(GOLDENS, 'grad_tiny.safetensors'), join(folder, 'grad_tiny.safetensors'));
    const results = new Map((await runParity(gpu, folder, { maxParams: 1000 })).map((r) => [r.name, r]));
    t.equal(results.get('right')?.status, 'pass');
    t.equal(results.get('wrong')?.status, 'fail');
    t.deepEqual(
      results
        .get('wrong')
        ?.comparisons.filter((c) => !c.pass)
        .map((c) => c.name),
      ['head.dx'],
      'only the spoilt tensor fails',
    );
    t.match(results.get('foreign')?.reason ?? '', /kind something else is not known/);
    t.match(results.get('nothing')?.reason ?? '', /no golden case/);
    t.equal(results.get('broken')?.status, 'fail');
    t.equal(results.get('grad_tiny')?.status, 'skipped', '--max-params');
  });
  await withFolder(async (folder) => {
    await runParity(gpu, folder).then(
      () => t.fail('an empty folder must be refused'),
      (error: Error) => t.match(error.message, /holds no golden case/),
    );
  });
});
