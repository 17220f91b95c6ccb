import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeArrayBuffer } from 'geotiff';
import sharp from 'sharp';
import test from 'tape';
import { evalCanopy } from '../../src/cli/eval_canopy.js';
import { evalDepth, type EvalDepthArguments } from '../../src/cli/eval_depth.js';
import { evalSegment, type EvalSegmentArguments } from '../../src/cli/eval_segment.js';
import { predict, type PredictArguments } from '../../src/cli/predict.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import { GeoTiff } from '../../src/io/geotiff.js';
import { readNpy } from '../../src/io/npy.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import { readSafetensors } from '../../src/io/safetensors.js';
import { type Entry, tarArchive, withFolder, writeFolder } from '../data/archives.js';
import { outputOf, writeRun } from './model_fixture.js';

const [WIDTH, HEIGHT] = [40, 32];
const pixels = Array.from({ length: WIDTH * HEIGHT }, (_, i) => i);
const sized = (channels: 1 | 3) => ({ raw: { width: WIDTH, height: HEIGHT, channels } });

/** Right of a line that moves with k: bright, class 1, 4 m. */
const right = (i: number, k: number): boolean => i % WIDTH >= 12 + ((5 * k) % 16);
const rgbOf = (k: number): Uint8Array =>
  Uint8Array.from(pixels.flatMap((i) => (right(i, k) ? [230, 220, 90] : [20, 40, 60 + (i % 9)])));

async function pairs(first: number, count: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let k = first; k < first + count; k++) {
    const labels = Uint8Array.from(pixels, (i) => (i < 4 ? 255 : Number(right(i, k))));
    const depth = Uint16Array.from(pixels, (i) => (i < 4 ? 0 : right(i, k) ? 4000 : 1500));
    // Heights on a grid of a quarter of the picture's.
    const heights = Uint16Array.from({ length: 80 }, (_, i) =>
      i === 0 ? 65535 : 4 * (i % 10) >= 12 + ((5 * k) % 16) ? 1200 : 0,
    );
    entries.push(
      [`${k}.png`, await sharp(rgbOf(k), sized(3)).png().toBuffer()],
      [`${k}.seg.png`, await sharp(labels, sized(1)).toColourspace('b-w').png().toBuffer()],
      [`${k}.depth.png`, await sharp(depth, sized(1)).toColourspace('grey16').png().toBuffer()],
      [
        `${k}.chm.png`,
        await sharp(heights, { raw: { width: 10, height: 8, channels: 1 } })
          .toColourspace('grey16')
          .png()
          .toBuffer(),
      ],
    );
  }
  return entries;
}

test('webdino eval segment, depth, canopy, and predict with their heads', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const train = join(folder, 'set', 'train.tar');
    const testing = join(folder, 'set', 'val.tar');
    mkdirSync(join(folder, 'set'));
    writeFileSync(train, tarArchive(await pairs(0, 4)));
    writeFileSync(testing, tarArchive(await pairs(4, 3)));
    writeFolder(join(folder, 'set'), [['classes.json', '["left", "right"]']]);
    writeFolder(join(folder, 'photos'), [['sub/one.png', await sharp(rgbOf(5), sized(3)).png().toBuffer()]]);
    const common = { model, train, test: testing, crop: '32', headBatch: 2, draws: 50, json: true };
    const photos = { model, data: join(folder, 'photos') };

    const segmentOut = join(folder, 'segment');
    const { stdout } = await outputOf(() =>
      evalSegment({ ...common, iterations: 12, headLr: '0.02', features: 'cached', out: segmentOut }),
    );
    const report = JSON.parse(stdout) as EvaluationReport;
    t.deepEqual(
      report.models.map(({ model: name, floor }) => [name.replace(/ of .*/, ''), floor]),
      [
        ['teacher', false],
        ['random weights', true],
        ['raw pixels', true],
        ['colour histogram', true],
      ],
    );
    t.deepEqual([report.dataset, report.train.pictures, report.test.pictures], ['set', 4, 3]);
    const [headline] = report.models[0].metrics;
    t.ok(headline.name === 'mIoU' && headline.value > 40 && headline.interval, `mIoU ${headline.value}`);
    t.equal(report.margins.length, 3);
    t.ok(existsSync(join(segmentOut, 'report.html')), 'a page');
    const head = readSafetensors(readFileSync(join(segmentOut, 'head.safetensors')));
    t.deepEqual(
      [...head.tensors.keys()].sort(),
      [
        'bn.bias',
        'bn.num_batches_tracked',
        'bn.running_mean',
        'bn.running_var',
        'bn.weight',
        'conv_seg.bias',
        'conv_seg.weight',
      ].map((name) => `decode_head.${name}`),
      'official names',
    );
    const maps = join(folder, 'maps');
    await outputOf(() => predict('segment', { ...photos, head: join(segmentOut, 'head.safetensors'), out: maps }));
    const mask = await sharp(join(maps, 'sub/one.png'))
      .toColourspace('b-w')
      .raw()
      .toBuffer({ resolveWithObject: true });
    t.deepEqual(
      [mask.info.width, mask.info.height, mask.info.channels],
      [WIDTH, HEIGHT, 1],
      'a mask of the picture’s size',
    );
    t.ok(
      mask.data.every((label) => label <= 1),
      'of labels',
    );
    t.equal((await sharp(join(maps, 'sub/one.overlay.png')).metadata()).channels, 3, 'and something to look at');

    const depthOut = join(folder, 'depth');
    const depth = await outputOf(() =>
      evalDepth({
        ...common,
        floors: false,
        iterations: 30,
        headLr: '0.01',
        evalCrop: 'none',
        out: depthOut,
        crop: '24x32',
      }),
    );
    const [rmse] = (JSON.parse(depth.stdout) as EvaluationReport).models[0].metrics;
    t.ok(rmse.name === 'RMSE' && rmse.value < 2.5, `RMSE ${rmse.value}`);
    await outputOf(() =>
      predict('depth', { ...photos, head: join(depthOut, 'head.safetensors'), out: maps, format: 'npy' }),
    );
    const metres = readNpy(readFileSync(join(maps, 'sub/one.npy')));
    t.deepEqual(metres.shape, [HEIGHT, WIDTH]);
    t.ok(
      (metres.data as Float32Array).every((value) => value > 0 && value <= 10),
      'metres',
    );

    const canopyOut = join(folder, 'canopy');
    const canopy = await outputOf(() =>
      evalCanopy({ ...common, floors: false, test: undefined, iterations: 4, channels: 8, out: canopyOut, crop: 16 }),
    );
    const held = JSON.parse(canopy.stdout) as EvaluationReport;
    t.deepEqual([held.train.pictures, held.test.pictures], [3, 1], 'a quarter is held out');
    t.ok(
      held.notes.some((text) => /held out/.test(text)) && Number.isFinite(held.models[0].metrics[0].value),
      'and said',
    );

    const raster = rgbOf(6);
    raster.fill(7, 0, 9);
    const geo = {
      width: WIDTH,
      height: HEIGHT,
      SamplesPerPixel: 3,
      BitsPerSample: [8, 8, 8],
      PhotometricInterpretation: 2,
      ModelPixelScale: [0.2, 0.2, 0],
      ModelTiepoint: [0, 0, 0, 600000, 5200000, 0],
      GTModelTypeGeoKey: 1,
      ProjectedCSTypeGeoKey: 32632,
      GDAL_NODATA: '7',
    };
    writeFileSync(join(folder, 'tile.tif'), Buffer.from(await writeArrayBuffer(raster, geo)));
    const canopyHead = join(canopyOut, 'head.safetensors');
    await outputOf(() => predict('canopy', { model, data: join(folder, 'tile.tif'), head: canopyHead, out: maps }));
    const tile = await GeoTiff.open(join(maps, 'tile.tif'));
    t.deepEqual([tile.width, tile.height, tile.noData], [WIDTH, HEIGHT, -9999], '7 m could be a height');
    t.deepEqual(tile.reference?.tiepoints, geo.ModelTiepoint, 'where the picture lies');
    const heights = await tile.band();
    t.ok(
      [0, 1, 2].every((i) => Number.isNaN(heights[i])),
      'no data where the picture has none',
    );
    t.ok(
      heights.slice(3).every((value) => value >= 0 && value <= 60),
      'heights elsewhere',
    );
    await tile.close();
    await outputOf(() => predict('canopy', { ...photos, head: canopyHead, out: join(folder, 'canopies') }));
    t.equal((await sharp(join(folder, 'canopies/sub/one.png')).metadata()).depth, 'ushort', '16 bits of centimetres');

    const refused = async (
      options: Partial<PredictArguments>,
      task: string,
      kind: typeof WebdinoError,
      pattern: RegExp,
    ) => {
      try {
        await outputOf(() => predict(task, { ...photos, head: canopyHead, out: maps, ...options }));
        t.fail(`${pattern} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused({}, 'depth', UsageError, /is a head for canopy/);
    await refused({}, 'clouds', UsageError, /the task clouds is unknown/);
    await refused(
      { head: join(model, 'checkpoints/step_0000007/teacher.safetensors') },
      'canopy',
      DataError,
      /is no head of webdino/,
    );
    await refused({ student: true }, 'canopy', UsageError, /other weights/);
    await refused({ data: join(folder, 'nowhere') }, 'canopy', DataError, /cannot be opened/);
    await refused({ format: 'tif' }, 'canopy', UsageError, /--format tif is unknown/);
  });
});

test('webdino eval segment and depth: what cannot be is said in one line', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const train = join(folder, 'train');
    writeFolder(train, await pairs(0, 2));
    writeFolder(join(folder, 'ignored'), [
      ['a.png', await sharp(rgbOf(0), sized(3)).png().toBuffer()],
      [
        'a.seg.png',
        await sharp(new Uint8Array(pixels.length).fill(255), sized(1)).toColourspace('b-w').png().toBuffer(),
      ],
      ['a.depth.png', await sharp(new Uint16Array(pixels.length), sized(1)).toColourspace('grey16').png().toBuffer()],
    ]);
    const good = { model, train, test: train, floors: false, iterations: 1, crop: '32' };
    const refused = async (body: () => Promise<void>, kind: typeof WebdinoError, pattern: RegExp): Promise<void> => {
      try {
        await outputOf(body);
        t.fail(`${pattern} was taken`);
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    const segment = (options: Partial<EvalSegmentArguments>) => () => evalSegment({ ...good, ...options });
    const depth = (options: Partial<EvalDepthArguments>) => () => evalDepth({ ...good, ...options });
    await refused(segment({ train: undefined }), UsageError, /--train is missing/);
    await refused(segment({ protocol: 'dpt' }), UsageError, /--protocol dpt is unknown; use linear, ms/);
    await refused(segment({ crop: '30' }), UsageError, /--crop 30 does not divide into patches of 8: use 32/);
    await refused(segment({ crop: 'large' }), UsageError, /--crop takes a side/);
    await refused(segment({ split: '0.5' }), UsageError, /--split and --test/);
    await refused(segment({ test: undefined, split: '1.5' }), UsageError, /--split 1.5/);
    await refused(segment({ scales: '1,x' }), UsageError, /--scales/);
    await refused(segment({ features: 'some' }), UsageError, /--features some is unknown/);
    await refused(segment({ test: join(folder, 'ignored') }), DataError, /none of 1 pictures can be used/);
    await refused(depth({ train: join(folder, 'ignored') }), DataError, /have no measured depth/);
    await refused(depth({ minDepth: '20' }), UsageError, /--min-depth 20 is not below/);
    await refused(depth({ evalCrop: 'big' }), UsageError, /use eigen, garg, none/);
    writeFolder(folder, [['two.json', '["only one"]']]);
    await refused(
      segment({ classes: join(folder, 'two.json') }),
      DataError,
      /holds the label 1, but there are 1 classes/,
    );
  });
});
