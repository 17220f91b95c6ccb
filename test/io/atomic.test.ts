/** Atomic files and folders: they replace whole, and errors leave what was there. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { restoreFolder, writeFileAtomic, writeFolderAtomic } from '../../src/io/atomic.js';

async function inTemporaryFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-atomic-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('writeFileAtomic: text, bytes, pieces; missing folders are made', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const path = join(folder, 'new', 'file.bin');
    await writeFileAtomic(path, 'text');
    t.equal(readFileSync(path, 'utf8'), 'text');
    await writeFileAtomic(path, Uint8Array.of(1, 2));
    t.deepEqual([...readFileSync(path)], [1, 2]);
    await writeFileAtomic(
      path,
      (async function* () {
        yield Uint8Array.of(3);
        yield Uint8Array.of(4, 5);
      })(),
    );
    t.deepEqual([...readFileSync(path)], [3, 4, 5]);
    t.deepEqual(readdirSync(join(folder, 'new')), ['file.bin'], 'nothing is left beside it');
  });
});

test('writeFileAtomic: an error in the middle leaves the old file', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const path = join(folder, 'file.bin');
    await writeFileAtomic(path, 'old');
    const failing = (function* () {
      yield Uint8Array.of(1);
      throw new Error('disk full');
    })();
    await writeFileAtomic(path, failing).then(
      () => t.fail('was written'),
      (error: Error) => t.equal(error.message, 'disk full'),
    );
    t.equal(readFileSync(path, 'utf8'), 'old');
    t.deepEqual(readdirSync(folder), ['file.bin']);
  });
});

test('writeFolderAtomic: replaces whole; an error leaves the old folder', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const path = join(folder, 'step_1');
    await writeFolderAtomic(path, async (inside) => {
      writeFileSync(join(inside, 'a'), '1');
      mkdirSync(join(inside, 'sub'));
      writeFileSync(join(inside, 'sub', 'b'), '2');
    });
    t.deepEqual(readdirSync(path), ['a', 'sub']);
    await writeFolderAtomic(path, async (inside) => writeFileSync(join(inside, 'c'), '3'));
    t.deepEqual(readdirSync(path), ['c'], 'nothing of the old one is left');
    await writeFolderAtomic(path, async (inside) => {
      writeFileSync(join(inside, 'd'), '4');
      throw new Error('stopped');
    }).then(
      () => t.fail('was written'),
      (error: Error) => t.equal(error.message, 'stopped'),
    );
    t.deepEqual(readdirSync(path), ['c']);
    t.deepEqual(readdirSync(folder), ['step_1']);
  });
});

test('restoreFolder: a replacement cut off in the middle brings the old folder back', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const path = join(folder, 'last');
    await writeFolderAtomic(path, async (inside) => writeFileSync(join(inside, 'a'), '1'));
    // The moment between the two renames, as a killed process leaves it.
    renameSync(path, join(folder, '.last.previous'));
    mkdirSync(join(folder, '.last.writing'));
    await restoreFolder(path);
    t.deepEqual(readdirSync(path), ['a']);
    await writeFolderAtomic(path, async (inside) => writeFileSync(join(inside, 'b'), '2'));
    t.deepEqual(readdirSync(folder), ['last'], 'leftovers are cleared by the next write');
    t.notOk(existsSync(join(path, 'a')));
  });
});
