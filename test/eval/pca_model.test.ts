import { join } from 'node:path';
import sharp from 'sharp';
import test from 'tape';
import { openSource } from '../../src/data/source.js';
import { DataError } from '../../src/errors.js';
import { pcaOfPixelsModel } from '../../src/eval/pca_model.js';
import { type Entry, withFolder, writeFolder } from '../data/archives.js';
import { allClose, noise, sameBits } from '../fixture.js';

const SIZE = 24;

/** Pictures that differ in the strength of one gradient only, and a little noise. */
async function writeGradients(folder: string, count: number): Promise<void> {
  const entries: Entry[] = [];
  for (let i = 0; i < count; i++) {
    const grain = noise(SIZE * SIZE * 3, i + 1);
    const data = Uint8Array.from(grain, (value, at) => {
      const column = Math.floor(at / 3) % SIZE;
      return Math.round(128 + (i - count / 2) * (column - SIZE / 2) + 2 * value);
    });
    const png = await sharp(data, { raw: { width: SIZE, height: SIZE, channels: 3 } })
      .png()
      .toBuffer();
    entries.push([`${String(i).padStart(2, '0')}.png`, png]);
  }
  writeFolder(folder, entries);
}

test('pcaOfPixelsModel: the first component is what the pictures differ in', async (t) => {
  await withFolder(async (folder) => {
    const path = join(folder, 'gradients');
    await writeGradients(path, 12);
    const source = await openSource(path);
    const options = { patchSize: 8, crop: SIZE, resize: SIZE };
    const model = await pcaOfPixelsModel(source, options);
    t.deepEqual([model.name, model.floor, model.dim, model.depth], ['PCA of pixels', true, 64, 1]);
    const request = { size: [SIZE, SIZE], batch: 4, blocks: [0], norm: true, patches: true, mean: true } as const;
    const reader = await model.open(request);
    t.deepEqual(reader.grid, [3, 3]);
    const pictures = await Promise.all(
      [0, 6, 11].map(async (i) =>
        sharp(await source.read(i))
          .removeAlpha()
          .raw()
          .toBuffer(),
      ),
    );
    const pixels = Uint8Array.from(Buffer.concat(pictures));
    const { cls, patches, mean } = await reader.read(pixels, 3);
    t.deepEqual([cls[0].length, patches[0].length, mean!.length], [3 * 64, 3 * 9 * 64, 3 * 64], 'shapes');
    const first = [0, 1, 2].map((i) => cls[0][i * 64]);
    t.ok(Math.abs(first[1]) < 0.3, `no gradient lies in the middle: ${first[1].toFixed(3)}`);
    t.ok(first[0] * first[2] < 0 && Math.min(Math.abs(first[0]), Math.abs(first[2])) > 1, 'the ends apart');
    t.ok(
      cls[0].subarray(12, 64).every((value) => value === 0),
      'no more components than pictures allow',
    );
    const expected = Float64Array.from({ length: 3 * 64 }, (_, at) => {
      const [picture, column] = [Math.floor(at / 64), at % 64];
      let sum = 0;
      for (let patch = 0; patch < 9; patch++) sum += patches[0][(picture * 9 + patch) * 64 + column] / 9;
      return sum;
    });
    allClose(t, mean!, expected, 'the mean patch');
    reader.dispose();

    const again = await (await pcaOfPixelsModel(source, options)).open(request);
    sameBits(t, (await again.read(pixels, 3)).patches[0], patches[0], 'the same bits twice');
    again.dispose();
    try {
      await pcaOfPixelsModel(source, { ...options, indices: [3] });
      t.fail('one picture was enough');
    } catch (error) {
      t.ok(error instanceof DataError && /two pictures/.test(error.message), (error as Error).message);
    }
    await source.close();
  });
});
