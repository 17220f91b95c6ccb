import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { FeatureFile } from '../../src/eval/feature_file.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import { noise } from '../fixture.js';

function inFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'features-'));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('feature file: rows come back as halves, in any order', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'train');
    const file = FeatureFile.create(path, 5);
    const rows = noise(7 * 5, 1).map((v) => 3 * v);
    file.append(rows.subarray(0, 10));
    file.append(rows.subarray(10));
    const halves = fromHalf(toHalf(rows)).subarray(0, 35);
    t.equal(file.rows, 7);
    t.deepEqual([...file.readRange(0, 7)], [...halves], 'all rows');
    t.deepEqual([...file.readRange(2, 2)], [...halves.subarray(10, 20)], 'a range');
    t.deepEqual(
      [...file.readRows([6, 0, 6])],
      [6, 0, 6].flatMap((row) => [...halves.subarray(5 * row, 5 * row + 5)]),
      'rows by their numbers',
    );
    t.throws(() => file.readRange(6, 2), /rows 6 to 7 of 7 features/, 'past the end');
    t.throws(() => file.readRows([7]), /rows 7 to 7 of 7/, 'a row that is not there');
    file.close();
    file.close();
    t.notOk(existsSync(path), 'closing removes it');
  });
  t.end();
});

test('feature file: values that a half cannot hold', (t) => {
  inFolder((folder) => {
    const file = FeatureFile.create(join(folder, 'train'), 2);
    file.append(Float32Array.of(1e6, -1e6));
    t.deepEqual([...file.readRange(0, 1)], [65504, -65504], 'kept at the ends of the range');
    t.throws(() => file.append(Float32Array.of(0, 1, Number.NaN, 0)), /feature row 2 is not finite/);
    t.throws(() => file.append(Float32Array.of(0, 1, 2)), /no whole rows of 2/);
    t.equal(file.rows, 1, 'what is refused leaves nothing');
    t.throws(() => FeatureFile.create(file.path, 2), /EEXIST/, 'an existing file is left alone');
    t.throws(() => FeatureFile.create(join(folder, 'none'), 0), /rows of 0 features/);
    file.close();
  });
  t.end();
});
