import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import test, { type Test } from 'tape';
import { vizAttention } from '../../src/cli/viz_attention.js';
import { vizMatch } from '../../src/cli/viz_match.js';
import { vizNeighbors } from '../../src/cli/viz_neighbors.js';
import { vizPca, type VizPcaArguments } from '../../src/cli/viz_pca.js';
import { fileNames } from '../../src/cli/viz_session.js';
import { vizUmap } from '../../src/cli/viz_umap.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import { readNpy } from '../../src/io/npy.js';
import { withFolder } from '../data/archives.js';
import { sameBits } from '../fixture.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

async function sizeOf(path: string): Promise<[number, number]> {
  const { width, height, format } = await sharp(path).metadata();
  if (format !== 'png') throw new Error(`${path} is ${format}`);
  return [width, height];
}

async function refused(t: Test, body: () => Promise<void>, kind: typeof WebdinoError, pattern: RegExp): Promise<void> {
  try {
    await outputOf(body);
    t.fail(`${pattern} was taken`);
  } catch (error) {
    const { message } = error as Error;
    t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
  }
}

test('webdino viz pca: pictures, a sheet, results, and colours that are kept', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const data = join(folder, 'pictures');
    await writePictures(data, ['red', 'green', 'blue'], 2);
    const [out, again, basis] = ['pca', 'again', 'colours.safetensors'].map((name) => join(folder, name));
    const first = {
      model,
      data,
      size: '24',
      out,
      limit: '4',
      saveBasis: basis,
      backgroundThreshold: '0.2',
      json: true,
    };
    const { stdout, stderr } = await outputOf(() => vizPca(first));
    const result = JSON.parse(stdout);
    t.equal(result.pictures.length, 4, 'as many pictures as asked');
    t.ok(/4 of 6 pictures/.test(stderr), 'which is said');
    t.deepEqual(result.pictures[0].grid, [3, 3], 'grid of patches');
    t.ok(result.foregroundPatches > 3 && result.foregroundPatches < 36, 'some of the patches are foreground');
    t.deepEqual(JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')), result, 'results.json says the same');
    const [width, height] = await sizeOf(result.pictures[0].file);
    t.ok(height >= 224 && width === 2 * height + 4, 'the picture beside its colours, large enough to see');
    t.ok((await sizeOf(result.sheet))[1] > 200, 'a sheet');

    const single = { model, data: join(data, 'red', '0.png'), size: '24', out: again, basis };
    const { stdout: line } = await outputOf(() => vizPca(single));
    t.ok(/sheet\.png: 1 picture, one file each/.test(line), line);
    const file = readFileSync(join(again, '0_pca.png'));
    const same = result.pictures.find(({ name }: { name: string }) => name === 'red/0.png');
    sameBits(t, file, readFileSync(same.file), 'the same picture has the same colours in another call');

    const refuse = (options: Partial<VizPcaArguments>, kind: typeof WebdinoError, pattern: RegExp) =>
      refused(t, () => vizPca({ ...first, ...options }), kind, pattern);
    await refuse({ backgroundThreshold: '2' }, UsageError, /--background-threshold takes a number from 0 to 1/);
    await refuse({ basis, flip: true }, UsageError, /--basis brings its own foreground/);
    await refuse({ basis: join(out, 'sheet.png'), backgroundThreshold: undefined }, DataError, /--basis .*sheet\.png/);
    await refuse({ out: basis }, UsageError, /is a file: give a folder/);
    await refuse({ size: '20' }, UsageError, /do not divide into patches of 8: use --size/);
    await refuse({ data: join(folder, 'nowhere') }, DataError, /nowhere cannot be opened/);
  });
});

test('webdino viz attention: maps as pictures and as numbers', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const data = join(folder, 'pictures');
    await writePictures(data, ['red', 'blue'], 1);
    const out = join(folder, 'attention');
    const options = { model, data, out, size: '16', square: true, block: '0', json: true };
    const result = JSON.parse((await outputOf(() => vizAttention(options))).stdout);
    t.equal(result.block, 0);
    t.equal(result.pictures.length, 2);
    const [{ file, weights, heads }] = result.pictures;
    await sizeOf(file);
    const { shape, data: values } = readNpy(readFileSync(weights));
    t.deepEqual(shape, [1, 2, 2], 'heads, rows, columns');
    const total = (values as Float32Array).reduce((sum, value) => sum + value, 0);
    t.ok(Math.abs(total + heads[0].cls - 1) < 1e-5, 'patches and CLS sum to 1');
    t.ok(heads[0].relativeEntropy > 0 && heads[0].relativeEntropy <= 1 + 1e-6, 'entropy');
    await refused(t, () => vizAttention({ ...options, block: '2' }), UsageError, /block 2 is not there.* 0 to 1/);
    await refused(t, () => vizAttention({ ...options, block: 'last' }), UsageError, /--block takes/);
  });
});

test('webdino viz neighbors: sheet, page and JSON, right and wrong by class', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const [data, queries, out] = ['pictures', 'queries', 'neighbors'].map((name) => join(folder, name));
    await writePictures(data, ['red', 'green', 'blue'], 3);
    await writePictures(queries, ['blue', 'grey'], 1);
    const own = JSON.parse(
      (await outputOf(() => vizNeighbors({ model, data, out, k: '2', limit: '3', json: true }))).stdout,
    );
    t.equal(own.sameClass, 1, 'colours are easy');
    t.ok(
      own.neighbours.every(({ query, neighbours }: { query: string; neighbours: { name: string }[] }) =>
        neighbours.every(({ name }) => name !== query),
      ),
      'nobody is their own neighbour',
    );
    t.equal((readFileSync(own.page, 'utf8').match(/class="right"/g) ?? []).length, 6, 'all right on the page');
    await sizeOf(own.sheet);
    const other = { model, data, queries, out, k: '3', json: true };
    const found = JSON.parse((await outputOf(() => vizNeighbors(other))).stdout);
    t.equal(found.neighbours[0].query, 'blue/0.png');
    t.deepEqual(
      found.neighbours[0].neighbours.map(({ class: name, agrees }: { class: string; agrees: boolean }) => [
        name,
        agrees,
      ]),
      Array.from({ length: 3 }, () => ['blue', true]),
      'classes by name',
    );
    t.equal(found.sameClass, 0.5, 'grey has no like');
    await refused(t, () => vizNeighbors({ ...other, k: '10' }), DataError, /10 neighbours among 9 pictures/);
  });
});

test('webdino viz umap: page, picture and table, the same for a seed', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const [data, out] = ['pictures', 'map'].map((name) => join(folder, name));
    await writePictures(data, ['red', 'green', 'blue'], 4);
    const options = { model, data, out, neighbors: '4', epochs: '30', json: true };
    const result = JSON.parse((await outputOf(() => vizUmap(options))).stdout);
    t.equal(result.pictures, 12);
    t.deepEqual(await sizeOf(result.picture), [1400, 1000]);
    t.ok(/"name":\["blue\/0\.png"/.test(readFileSync(result.page, 'utf8')), 'the page holds the names');
    const table = readFileSync(result.coordinates, 'utf8');
    const [head, row] = table.split('\n');
    t.equal(head, 'name,label,class_name,x,y');
    t.ok(/^blue\/0\.png,0,blue,-?\d+\.\d{6},-?\d+\.\d{6}$/.test(row), row);
    await outputOf(() => vizUmap(options));
    t.equal(readFileSync(result.coordinates, 'utf8'), table, 'the same table again');
    await refused(t, () => vizUmap({ ...options, neighbors: '12' }), DataError, /12 pictures are too few for a map/);
    await refused(t, () => vizUmap({ ...options, seed: '-1' }), UsageError, /--seed/);
  });
});

test('webdino viz match: a picture and its matches in pixels of the files', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    await writePictures(folder, ['red'], 1);
    const a = join(folder, 'red', '0.png');
    const b = join(folder, 'mirror.png');
    await sharp(await sharp(a).resize(88, 80).toBuffer()).toFile(b);
    const out = join(folder, 'matches.png');
    const options = { model, a, b, out, size: '32', ratio: '1', refine: false, json: true };
    const result = JSON.parse((await outputOf(() => vizMatch(options))).stdout);
    t.ok(result.matches.length > 0, `${result.matches.length} matches`);
    const inside = (point: number[], width: number, height: number): boolean =>
      point[0] > 0 && point[0] < width && point[1] > 0 && point[1] < height;
    t.ok(
      result.matches.every(
        ({ a: one, b: other }: { a: number[]; b: number[] }) => inside(one, 44, 40) && inside(other, 88, 80),
      ),
      'inside both files',
    );
    t.ok((await sizeOf(out))[1] > 500, 'the drawing');
    t.ok(existsSync(join(folder, 'matches.json')), 'the numbers beside it');
    await refused(t, () => vizMatch({ ...options, out: join(folder, 'matches') }), UsageError, /give a name in \.png/);
    await refused(t, () => vizMatch({ ...options, b: folder }), DataError, /is no file: give one picture/);
  });
});

test('fileNames: without folders, unlike each other', (t) => {
  t.deepEqual(fileNames(['a/x.jpg', 'b/x.png', 'b/X.png', 'c/ä ö?.jpg', 'c/??.jpg']), ['x', 'x_2', 'X_3', 'ä_ö_', '_']);
  t.end();
});
