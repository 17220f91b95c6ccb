import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeArrayBuffer } from 'geotiff';
import sharp from 'sharp';
import test from 'tape';
import {
  type DenseSourceOptions,
  measuredPixels,
  openDenseSource,
  resizeTarget,
  selectPairs,
} from '../../src/data/dense_source.js';
import { DataError } from '../../src/errors.js';
import { type Entry, pngOf, tarArchive, withFolder, writeFolder } from './archives.js';

const DATA = fileURLToPath(new URL('../../../shared/data/', import.meta.url));

const SIZE = { width: 6, height: 4 };

function grey(values: ArrayLike<number>, size = SIZE): Promise<Buffer> {
  return sharp(Uint8Array.from(values), { raw: { ...size, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer();
}

function grey16(values: ArrayLike<number>, size = SIZE): Promise<Buffer> {
  return sharp(Uint16Array.from(values), { raw: { ...size, channels: 1 } })
    .toColourspace('grey16')
    .png()
    .toBuffer();
}

async function floatTiff(values: Float32Array, size = SIZE, noData?: number): Promise<Buffer> {
  const metadata = { ...size, SampleFormat: [3], BitsPerSample: [32] };
  return Buffer.from(
    await writeArrayBuffer(values, noData === undefined ? metadata : { ...metadata, GDAL_NODATA: String(noData) }),
  );
}

const ramp = (step: number): number[] => Array.from({ length: 24 }, (_, i) => step * i);
const plain = (values: ArrayLike<number>): (number | string)[] =>
  Array.from(values, (value) => (Number.isNaN(value) ? 'none' : Math.round(value * 1e4) / 1e4));

test('dense source: depth and heights of 16 bits in a tar, labels in parallel folders', async (t) => {
  await withFolder(async (folder) => {
    const picture = await pngOf(6, 4);
    const entries: Entry[] = [
      ['b.png', picture],
      ['b.depth.png', await grey16(ramp(700))],
      ['b.chm.png', await grey16([65535, ...ramp(250).slice(1)])],
      ['b.chm50.png', await grey16(ramp(1))],
      ['a.png', picture],
    ];
    writeFolder(folder, [['set.tar', tarArchive(entries)]]);
    const depth = await openDenseSource({ path: join(folder, 'set.tar'), kind: 'depth' });
    t.deepEqual(
      [depth.length, depth.unpaired, depth.name(0)],
      [1, 1, 'b.png'],
      'the picture without depth is left out',
    );
    const { target } = await depth.read(0);
    t.deepEqual(
      plain(target.values),
      ['none', ...ramp(0.7).slice(1)].map((v) => (typeof v === 'number' ? Math.round(v * 1e4) / 1e4 : v)),
      'metres; 0 is none',
    );
    t.equal(measuredPixels(target), 23);
    await depth.close();
    const kitti = await openDenseSource({ path: join(folder, 'set.tar'), kind: 'depth', depthDivisor: 256 });
    t.equal((await kitti.read(0)).target.values[1], 700 / 256, 'another divisor');
    await kitti.close();
    const heights = await openDenseSource({ path: join(folder, 'set.tar'), kind: 'height' });
    t.deepEqual(
      plain((await heights.read(0)).target.values).slice(0, 3),
      ['none', 2.5, 5],
      'centimetres; 65535 is none',
    );
    await heights.close();

    writeFolder(folder, [
      ['pictures/x/1.2.jpg', await sharp(picture).jpeg().toBuffer()],
      ['pictures/classes.json', JSON.stringify(['sky', { name: 'tree' }])],
      ['masks/x/1.2.png', await grey([0, 255, ...Array<number>(22).fill(1)])],
    ]);
    const labels = await openDenseSource({
      path: join(folder, 'pictures'),
      targets: join(folder, 'masks'),
      kind: 'labels',
    });
    t.deepEqual(labels.classNames, ['sky', 'tree']);
    t.deepEqual([...(await labels.read(0)).target.values.slice(0, 3)], [0, 255, 1]);
    t.equal(selectPairs(labels, []).length, 0, 'some of the pairs');
    await labels.close();
    const reduced = await openDenseSource({
      path: join(folder, 'pictures'),
      targets: join(folder, 'masks'),
      kind: 'labels',
      reduceZeroLabel: true,
    });
    t.deepEqual([...(await reduced.read(0)).target.values.slice(0, 3)], [255, 255, 0], 'label 0 is no class');
    await reduced.close();
  });
});

test('dense source: labels with a palette, TIFFs in metres, coarser targets', async (t) => {
  await withFolder(async (folder) => {
    const indices = Array.from({ length: 24 }, (_, i) => i % 3);
    const colours = indices.flatMap(
      (index) =>
        [
          [10, 20, 30],
          [200, 0, 0],
          [0, 90, 250],
        ][index],
    );
    const palette = await sharp(Uint8Array.from(colours), { raw: { ...SIZE, channels: 3 } })
      .png({ palette: true, colours: 4, dither: 0 })
      .toBuffer();
    const picture = await pngOf(6, 4);
    const metres = Float32Array.from(ramp(1.5), (value, i) =>
      i === 2 ? -9999 : i === 3 ? Number.POSITIVE_INFINITY : i === 4 ? -1.5 : value,
    );
    writeFolder(folder, [
      ['p.png', picture],
      ['p.seg.png', palette],
      ['p.depth.tif', await floatTiff(metres, SIZE, -9999)],
      ['p.chm.tif', await floatTiff(Float32Array.of(1, 2, 3, 4, 5, -9999), { width: 3, height: 2 }, -9999)],
    ]);
    const labels = await openDenseSource({ path: folder, kind: 'labels' });
    const read = [...(await labels.read(0)).target.values];
    const names = new Map(indices.map((index, i) => [index, read[i]]));
    t.equal(new Set(names.values()).size, 3, 'three indices');
    t.ok(
      read.every((value, i) => value === names.get(indices[i]) && value < 4),
      'indices, not colours',
    );
    await labels.close();
    const depth = await openDenseSource({ path: folder, kind: 'depth' });
    t.deepEqual(
      plain((await depth.read(0)).target.values).slice(0, 6),
      ['none', 1.5, 'none', 'none', 'none', 7.5],
      'zero, no-data, infinite and negative depths are none',
    );
    await depth.close();
    const heights = await openDenseSource({ path: folder, kind: 'height' });
    const { target } = await heights.read(0);
    t.deepEqual([target.width, target.height], [3, 2], 'a coarser map of the same frame');
    t.deepEqual(
      plain(resizeTarget(target, 6, 4).values).slice(12),
      [4, 4, 5, 5, 'none', 'none', 4, 4, 5, 5, 'none', 'none'],
      'brought to the picture by the nearest value',
    );
    await heights.close();
  });
});

test('dense source: what cannot be is said in one line', async (t) => {
  await withFolder(async (folder) => {
    const picture = await pngOf(6, 4);
    let sets = 0;
    const refused = async (entries: Entry[], kind: DenseSourceOptions['kind'], pattern: RegExp): Promise<void> => {
      const path = join(folder, `set${sets++}`);
      writeFolder(path, entries);
      try {
        const source = await openDenseSource({ path, kind });
        await source.read(0);
        t.fail(`${pattern} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof DataError && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    const classes: Entry = ['classes.json', '["a", "b"]'];
    await refused([['p.png', picture]], 'depth', /no picture with depth: of 1 pictures and 0 targets/);
    await refused(
      [
        ['p.png', picture],
        ['p.seg.png', await grey(ramp(0).slice(0, 20), { width: 5, height: 4 })],
      ],
      'labels',
      /p\.seg\.png is 5 x 4 and p\.png 6 x 4: they do not show the same frame/,
    );
    await refused(
      [['p.png', picture], classes, ['p.seg.png', await grey(ramp(1))]],
      'labels',
      /label 2, but there are 2/,
    );
    await refused(
      [
        ['p.png', picture],
        ['p.depth.png', await grey(ramp(1))],
      ],
      'depth',
      /one channel of 16 bits/,
    );
    await refused(
      [
        ['p.png', picture],
        ['p.seg.png', await grey16(ramp(1))],
      ],
      'labels',
      /one channel of 8 bits/,
    );
    await refused(
      [
        ['p.png', picture],
        ['p.seg.png', picture],
      ],
      'labels',
      /3 channels/,
    );
    await refused(
      [
        ['p.png', picture],
        ['p.seg.png', ''],
      ],
      'labels',
      /p\.seg\.png: is empty/,
    );
    await refused(
      [
        ['p.png', picture],
        ['p.chm.tif', 'no'],
      ],
      'height',
      /p\.chm\.tif is no readable TIFF/,
    );
    const halves = await floatTiff(Float32Array.from(ramp(0.5)));
    await refused(
      [
        ['p.png', picture],
        ['p.seg.tif', halves],
      ],
      'labels',
      /holds 0\.5, which is no label/,
    );
    await refused(
      [
        ['p.png', picture],
        ['classes.json', '{'],
        ['p.seg.png', await grey(ramp(1))],
      ],
      'labels',
      /JSON/,
    );
    const empty = join(folder, 'all-ignored');
    writeFolder(empty, [
      ['p.png', picture],
      ['p.seg.png', await grey(ramp(0).fill(255))],
      ['p.chm.tif', await floatTiff(new Float32Array(24).fill(-9999), SIZE, -9999)],
    ]);
    const labels = await openDenseSource({ path: empty, kind: 'labels' });
    t.equal(measuredPixels((await labels.read(0)).target), 0, 'a mask without a labelled pixel');
    await labels.close();
    const heights = await openDenseSource({ path: empty, kind: 'height' });
    t.equal(measuredPixels((await heights.read(0)).target), 0, 'a raster without data');
    await heights.close();
  });
});

test('dense source: the real sets', async (t) => {
  if (!existsSync(join(DATA, 'nyuv2'))) return t.skip('no ../shared/data beside the project');
  const depth = await openDenseSource({ path: join(DATA, 'nyuv2/val.tar'), kind: 'depth' });
  const { values } = (await depth.read(0)).target;
  t.deepEqual([depth.length, depth.unpaired], [110, 0]);
  t.ok(Math.abs(values[3000] - 2.824) < 1e-6, 'millimetres of NYU, as numpy reads them');
  await depth.close();
  const labels = await openDenseSource({ path: join(DATA, 'camvid/val.tar'), kind: 'labels' });
  const pair = await labels.read(0);
  t.deepEqual([labels.length, labels.classNames?.length, pair.target.width], [51, 11, pair.picture.width]);
  await labels.close();
  const heights = await openDenseSource({ path: join(DATA, 'canopy/train.tar'), kind: 'height' });
  t.deepEqual([heights.length, (await heights.read(0)).target.width], [78, 20], 'heights of 1 m, not those of 0.5 m');
  for (let i = 0; i < heights.length; i++) await heights.read(i);
  await heights.close();
});
