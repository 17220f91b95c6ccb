import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { embed } from '../../src/cli/embed.js';
import { DataError, UsageError } from '../../src/errors.js';
import { readNpy } from '../../src/io/npy.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { allClose } from '../fixture.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

test('webdino embed: features, names and labels in one order', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const data = join(folder, 'pictures');
    await writePictures(data, ['blue', 'red'], 3);
    writeFolder(data, [['blue/broken.png', 'nothing']]);
    const out = join(folder, 'made', 'features.npy');
    const { stdout, stderr } = await outputOf(() => embed({ model, data, out, batch: 4 }));
    t.ok(stdout.includes('6 x 64 features (cls)'), stdout);
    t.ok(stderr.includes('left out: blue/broken.png'), 'the broken one is named');
    t.deepEqual((await readdir(join(folder, 'made'))).sort(), [
      'features.labels.txt',
      'features.names.txt',
      'features.npy',
    ]);
    const { shape, data: values } = readNpy(new Uint8Array(readFileSync(out)));
    t.deepEqual(shape, [6, 64]);
    t.ok(values instanceof Float32Array && values.every(Number.isFinite));
    const names = readFileSync(join(folder, 'made', 'features.names.txt'), 'utf8');
    t.equal(names, 'blue/0.png\nblue/1.png\nblue/2.png\nred/0.png\nred/1.png\nred/2.png\n');
    t.equal(readFileSync(join(folder, 'made', 'features.labels.txt'), 'utf8'), '0\n0\n0\n1\n1\n1\n');

    // The last picture alone, unlabelled, pooled both ways: its first half is the row above.
    const single = join(folder, 'single');
    writeFolder(single, [['x.png', readFileSync(join(data, 'red', '2.png'))]]);
    const wide = join(folder, 'wide.npy');
    const other = await outputOf(() => embed({ model, data: single, out: wide, tokens: 'cls+patch-mean' }));
    t.notOk(other.stdout.includes('labels'), 'no labels file without labels');
    const { shape: wideShape, data: both } = readNpy(new Uint8Array(readFileSync(wide)));
    t.deepEqual(wideShape, [1, 128]);
    allClose(
      t,
      (both as Float32Array).subarray(0, 64),
      (values as Float32Array).subarray(5 * 64),
      'the same CLS token',
    );

    const halved = join(folder, 'halved.npy');
    await outputOf(() => embed({ model, data: single, out: halved, tokens: 'cls+patch-mean', dtype: 'f16' }));
    const { data: half } = readNpy(new Uint8Array(readFileSync(halved)));
    t.ok(half instanceof Float32Array, 'half precision is written as float32 too');
    allClose(t, half as Float32Array, both as Float32Array, 'and gives the same features', { relative: 1e-2 });
  });
});

test('webdino embed: what cannot be is said in one line, and nothing is written', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const data = join(folder, 'pictures');
    writeFolder(data, [['broken.png', 'nothing']]);
    const out = join(folder, 'features.npy');
    for (const [options, kind, pattern] of [
      [{ out: join(folder, 'features.csv') }, UsageError, /give a name in \.npy/],
      [{ tokens: 'all' }, UsageError, /--tokens all is unknown; use cls, patch-mean, cls\+patch-mean/],
      [{ dtype: 'bf16' }, UsageError, /--dtype bf16 is unknown; use f32 or f16/],
      [{ data: '' }, UsageError, /--data is missing/],
      [{ batch: '0' }, UsageError, /--batch takes a whole number/],
      [{}, DataError, /all 1 pictures .* are corrupt/],
    ] as const) {
      try {
        await outputOf(() => embed({ model, data, out, ...options }));
        t.fail(`${JSON.stringify(options)} was taken`);
      } catch (error) {
        t.ok(error instanceof kind && pattern.test(error.message), (error as Error).message);
      }
    }
    t.deepEqual((await readdir(folder)).sort(), ['pictures', 'run'], 'nothing is written');
  });
});
