import { join } from 'node:path';
import sharp from 'sharp';
import test from 'tape';
import { openDenseSource } from '../../src/data/dense_source.js';
import { DEPTH_VIEWS, SEGMENTATION_VIEWS } from '../../src/data/dense_views.js';
import { DataError, UsageError } from '../../src/errors.js';
import { holdOut, openDenseSet } from '../../src/eval/dense_set.js';
import { type HeadTraining, headLearningRate, trainPixelHead } from '../../src/eval/dense_training.js';
import { pixelModel } from '../../src/eval/floor_models.js';
import { networkModel } from '../../src/eval/network_model.js';
import { fingerprint, PixelHead, type PixelHeadConfig, protocolBlocks } from '../../src/eval/pixel_head.js';
import { PixelPredictor, predictLabels, predictMetres } from '../../src/eval/pixel_prediction.js';
import { segmentMode } from '../../src/eval/segment.js';
import { type Entry, withFolder, writeFolder } from '../data/archives.js';
import { allClose, testGpu } from '../fixture.js';
import { TINY_VIT, tinyStore } from './tiny_model.js';

const SIDE = 32;
const CROP = [32, 32] as const;

/** Pictures of a bright square on a dark ground: class 1 and 3 m, class 0 and 1 m. */
async function writeSquares(folder: string, count: number): Promise<void> {
  const entries: Entry[] = [['classes.json', '["ground", "square"]']];
  for (let k = 0; k < count; k++) {
    const inside = (i: number): boolean => {
      const [x, y] = [i % SIDE, Math.floor(i / SIDE)];
      const [left, top] = [8 * (k % 3), 8 * (Math.floor(k / 3) % 3)];
      return x >= left && x < left + 16 && y >= top && y < top + 16;
    };
    const pixels = Array.from({ length: SIDE * SIDE }, (_, i) => i);
    const raw = (channels: 1 | 3) => ({ raw: { width: SIDE, height: SIDE, channels } });
    const rgb = pixels.flatMap((i) => (inside(i) ? [220, 200, 60 + (i % 7)] : [30 + (i % 5), 40, 90]));
    entries.push(
      [`${k}.png`, await sharp(Uint8Array.from(rgb), raw(3)).png().toBuffer()],
      [
        `${k}.seg.png`,
        await sharp(
          Uint8Array.from(pixels, (i) => (i < 3 ? 255 : Number(inside(i)))),
          raw(1),
        )
          .toColourspace('b-w')
          .png()
          .toBuffer(),
      ],
      [
        `${k}.depth.png`,
        await sharp(
          Uint16Array.from(pixels, (i) => (i < 3 ? 0 : inside(i) ? 3000 : 1000)),
          raw(1),
        )
          .toColourspace('grey16')
          .png()
          .toBuffer(),
      ],
    );
  }
  writeFolder(folder, entries);
}

function configOf(
  task: 'segment' | 'depth',
  protocol: PixelHeadConfig['protocol'],
  dim: number,
  depth: number,
): PixelHeadConfig {
  return {
    task,
    protocol,
    dim,
    blocks: protocolBlocks(protocol, depth),
    classNames: task === 'segment' ? ['ground', 'square'] : [],
    min: 0.001,
    max: 10,
    channels: 8,
    crop: [16, 16],
    shorterSide: SIDE,
    model: { name: 'test', patchSize: 8, depth, fingerprint: [] },
  };
}

const LABELS: HeadTraining = {
  iterations: 30,
  batch: 4,
  learningRate: 0.02,
  schedule: 'poly',
  warmUp: 2,
  weightDecay: 1e-4,
  maxNorm: 0,
  features: 'end-to-end',
  views: { kind: 'labels', ...SEGMENTATION_VIEWS, ratio: [1, 1.1], colour: false, crop: CROP, shorterSide: SIDE },
};
const METRES: HeadTraining = {
  ...LABELS,
  schedule: 'cosine',
  maxNorm: 35,
  views: { kind: 'depth', ...DEPTH_VIEWS, crop: [16, 16], colour: 0, turn: 0 },
};

test('a segmentation head learns from raw pixels and from a network, end to end and cached', async (t) => {
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    await writeSquares(folder, 6);
    const source = await openDenseSource({ path: folder, kind: 'labels' });
    const set = await openDenseSet(source, () => {});
    const context = { gpu, seed: 5, cacheFolder: folder, tokenBatch: 4, progress: () => {} };
    const network = networkModel(gpu, { name: 'tiny', vit: TINY_VIT, weights: await tinyStore() });
    const losses: number[][] = [];
    for (const [model, features] of [
      [pixelModel(8), 'end-to-end'],
      [network, 'end-to-end'],
      [network, 'end-to-end'],
      [network, 'cached'],
    ] as const) {
      const head = await PixelHead.create(gpu, configOf('segment', 'linear', model.dim, model.depth), 5);
      const { losses: curve } = await trainPixelHead(head, model, set, { ...LABELS, features }, context);
      losses.push(curve.map(([, loss]) => loss));
      const [first, last] = [curve[0][1], curve[curve.length - 1][1]];
      t.ok(last < 0.6 * first, `${model.name}, ${features}: ${first.toFixed(3)} to ${last.toFixed(3)}`);
      if (model !== network || features === 'cached') {
        const predictor = new PixelPredictor(gpu, model, head, 4);
        const mode = segmentMode('linear', { crop: CROP, shorterSide: SIDE }, 8);
        const { picture, target } = await set.pair(1);
        const labels = await predictLabels(predictor, picture, mode);
        const wrong = labels.filter((label, i) => target.values[i] !== 255 && label !== target.values[i]).length;
        t.ok(wrong < 60, `${wrong} of 1021 pixels wrong`);
        predictor.dispose();
      }
      head.dispose();
    }
    t.deepEqual(losses[1], losses[2], 'the same losses again, to the bit');
    network.dispose();
    await source.close();
  });
});

test('depth heads learn, are saved, and say the same when they are loaded', async (t) => {
  const gpu = await testGpu();
  await withFolder(async (folder) => {
    await writeSquares(folder, 4);
    const source = await openDenseSource({ path: folder, kind: 'depth' });
    const set = await openDenseSet(source, () => {});
    const context = { gpu, seed: 1, cacheFolder: folder, tokenBatch: 4, progress: () => {} };
    const network = networkModel(gpu, { name: 'tiny', vit: TINY_VIT, weights: await tinyStore() });
    for (const [protocol, iterations] of [
      ['linear4', 40],
      ['dpt', 12],
    ] as const) {
      const config = {
        ...configOf('depth', protocol, network.dim, network.depth),
        model: { name: 'tiny', patchSize: 8, depth: network.depth, fingerprint: await fingerprint(network) },
      };
      const head = await PixelHead.create(gpu, config, 1);
      const { losses } = await trainPixelHead(head, network, set, { ...METRES, iterations }, context);
      const early = losses.find(([step]) => step >= iterations / 10)![1];
      const last = losses[losses.length - 1][1];
      t.ok(last < 0.9 * early, `${protocol}: ${early.toFixed(3)} after the warm-up, ${last.toFixed(3)} at the end`);
      const path = join(folder, `${protocol}.safetensors`);
      await head.save(path, iterations);
      const again = await PixelHead.load(gpu, path);
      t.deepEqual(again.config, config, 'the whole configuration');
      await again.assertModel(network);
      const mode = {
        mode: 'whole' as const,
        window: CROP,
        stride: CROP,
        weights: 'even' as const,
        flip: true,
        scales: [1],
        patchMultiple: 8,
      };
      const { picture } = await set.pair(0);
      const maps = [];
      for (const one of [head, again]) {
        const predictor = new PixelPredictor(gpu, network, one, 2);
        maps.push((await predictMetres(predictor, one, picture, mode)).values);
        predictor.dispose();
      }
      t.deepEqual(maps[0], maps[1], 'the same map');
      t.ok(
        maps[0].length === SIDE * SIDE && maps[0].every((value) => value >= 0.001 && value <= 10),
        'metres in range',
      );
      const other = networkModel(gpu, { name: 'other', vit: TINY_VIT, weights: await tinyStore(TINY_VIT, 6) });
      await again.assertModel(other).then(
        () => t.fail('another network was taken'),
        (error: Error) => t.ok(error instanceof UsageError && /other weights/.test(error.message), error.message),
      );
      for (const owned of [head, again, other]) owned.dispose();
    }
    network.dispose();
    await source.close();
  });
});

test('learning rates, blocks, held-out pictures', async (t) => {
  const poly = { learningRate: 1e-3, schedule: 'poly', iterations: 40000, warmUp: 1500 } as const;
  allClose(
    t,
    [0, 750, 1500, 20000, 39999].map((i) => headLearningRate(poly, i)),
    [1e-9, 1e-3 * (1 - 750 / 40000) * (1 - 0.5 * (1 - 1e-6)), 1e-3 * (1 - 1500 / 40000), 5e-4, 2.5e-8],
    'mmcv: poly of power 1 under a linear warm-up',
    { absolute: 1e-12, relative: 1e-9 },
  );
  const cosine = { learningRate: 1e-4, schedule: 'cosine', iterations: 38400, warmUp: 12800 } as const;
  allClose(
    t,
    [0, 19200, 38400].map((i) => headLearningRate(cosine, i)),
    [1e-7, 0.5e-4, 1e-12],
    'mmcv: cosine',
    { absolute: 1e-11, relative: 1e-9 },
  );
  t.deepEqual(protocolBlocks('linear4', 12), [2, 5, 8, 11], 'S and B');
  t.deepEqual(protocolBlocks('dpt', 24), [4, 11, 17, 23], 'L');
  t.deepEqual(protocolBlocks('dpt', 40), [9, 19, 29, 39], 'g');
  t.deepEqual(protocolBlocks('ms', 12), [8, 9, 10, 11]);
  t.deepEqual(protocolBlocks('ms', 2), [0, 0, 0, 1], 'a network of two blocks');
  t.deepEqual(protocolBlocks('linear1', 12), [11]);

  await withFolder(async (folder) => {
    await writeSquares(folder, 8);
    const source = await openDenseSource({ path: folder, kind: 'labels' });
    const names = (share: number, seed: number): string[][] => {
      const { train, test: held } = holdOut(source, share, seed);
      return [train, held].map((part) => Array.from({ length: part.length }, (_, i) => part.name(i)));
    };
    const [train, held] = names(0.25, 3);
    t.deepEqual([train.length, held.length], [6, 2]);
    t.equal(new Set([...train, ...held]).size, 8, 'disjoint');
    t.deepEqual(names(0.25, 3), [train, held], 'the same again');
    t.notDeepEqual(names(0.25, 4), [train, held], 'another seed, other pictures');
    t.throws(() => holdOut(source, 0.01, 3), UsageError);
    await source.close();

    const grey = (value: number) =>
      sharp(new Uint8Array(SIDE * SIDE).fill(value), { raw: { width: SIDE, height: SIDE, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toBuffer();
    writeFolder(folder, [
      ['0.seg.png', await grey(255)],
      ['1.png', 'broken'],
      ['2.seg.png', await grey(7)],
    ]);
    const bad = await openDenseSource({ path: folder, kind: 'labels' });
    await openDenseSet(bad, () => {}).then(
      () => t.fail('a label out of range was taken'),
      (error: Error) =>
        t.ok(error instanceof DataError && /2\.seg\.png holds the label 7/.test(error.message), error.message),
    );
    writeFolder(folder, [['2.seg.png', await grey(1)]]);
    const set = await openDenseSet(bad, () => {});
    t.equal(set.length, 6, 'damaged and all-ignored pictures are left out');
    t.ok(
      set.notes.some((text) => /damaged/.test(text)) && set.notes.some((text) => /0\.png/.test(text)),
      set.notes.join('; '),
    );
    await bad.close();
  });
});
