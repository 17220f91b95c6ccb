import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import test from 'tape';
import { type CropSettings, DEFAULT_CROPS, multiCrop } from '../../src/data/augment.js';
import { decodeRgb } from '../../src/data/decode.js';
import { evaluationBatches } from '../../src/data/evaluation_loader.js';
import { type CropBatch, MultiCropLoader, type MultiCropOptions } from '../../src/data/loader.js';
import type { BadPicture } from '../../src/data/picture.js';
import { CounterRandom, RandomPurpose } from '../../src/data/random.js';
import { type ImageSource, openSource } from '../../src/data/source.js';
import { DataError, WebdinoError } from '../../src/errors.js';
import { type Entry, pngOf, withFolder, writeFolder, zipArchive } from './archives.js';

const shared = fileURLToPath(new URL('../../../shared/data', import.meta.url));

const SETTINGS: CropSettings = { ...DEFAULT_CROPS, globalSize: 16, localSize: 8, localCount: 3 };

/** A source in memory: any bytes, no labels. */
function memorySource(pictures: readonly Uint8Array[]): ImageSource {
  return {
    path: 'memory',
    length: pictures.length,
    name: (index) => `picture ${index}`,
    label: () => undefined,
    read: async (index) => pictures[index],
    close: async () => {},
  };
}

async function take(source: ImageSource, options: Partial<MultiCropOptions>, count: number): Promise<CropBatch[]> {
  const loader = new MultiCropLoader(source, { settings: SETTINGS, batchSize: 5, seed: 11, workers: 0, ...options });
  try {
    const batches: CropBatch[] = [];
    for (let i = 0; i < count; i++) batches.push(await loader.next());
    return batches;
  } finally {
    await loader.close();
  }
}

/** Twelve different pictures, of which two are corrupt. */
async function mixedPictures(): Promise<Uint8Array[]> {
  const pictures: Uint8Array[] = [];
  for (let i = 0; i < 12; i++) pictures.push(await pngOf(20 + i, 30 - i, i));
  pictures[3] = pictures[3].subarray(0, 100);
  pictures[8] = Buffer.from('not a picture');
  return pictures;
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

test('a batch holds the crops of its pictures, crop-major', async (t) => {
  const pictures = await mixedPictures();
  const [, batch] = await take(memorySource(pictures), {}, 2);
  t.deepEqual(
    [batch.step, batch.globalCrops.length, batch.localCrops.length, batch.indices.length],
    [1, 2 * 5 * 16 * 16 * 3, 3 * 5 * 8 * 8 * 3, 5],
  );
  for (const [slot, index] of batch.indices.entries()) {
    const image = await decodeRgb(pictures[index], String(index));
    const views = multiCrop(image, SETTINGS, new CounterRandom(11, RandomPurpose.crops, 1, slot));
    const at = (crops: Uint8Array, size: number, crop: number) => {
      const bytes = size * size * 3;
      return crops.slice((crop * 5 + slot) * bytes, (crop * 5 + slot + 1) * bytes);
    };
    const same =
      views.global.every((view, crop) => Buffer.compare(view, at(batch.globalCrops, 16, crop)) === 0) &&
      views.local.every((view, crop) => Buffer.compare(view, at(batch.localCrops, 8, crop)) === 0);
    t.ok(same, `slot ${slot}`);
  }
});

test('batches do not depend on workers, prefetching, the cache or where the run began', async (t) => {
  const source = memorySource(await mixedPictures());
  const want = await take(source, {}, 7);
  t.deepEqual(await take(source, { workers: 1 }, 7), want, 'one worker');
  t.deepEqual(await take(source, { workers: 2, prefetch: 5 }, 7), want, 'two workers');
  t.deepEqual(await take(source, { workers: 1, cacheBytes: 0 }, 7), want, 'one worker, nothing cached');
  t.deepEqual(await take(source, { prefetch: 0, cacheBytes: 5000 }, 7), want, 'a cache for a few pictures');
  t.deepEqual(await take(source, { startStep: 4 }, 3), want.slice(4), 'resumed at step 4');
  t.deepEqual(await take(source, { startStep: 4, workers: 2 }, 3), want.slice(4), 'resumed with other workers');
  t.notDeepEqual((await take(source, { seed: 12 }, 1))[0].globalCrops, want[0].globalCrops, 'another seed');
  t.notDeepEqual(want[0].globalCrops, want[1].globalCrops);
});

test('every picture is visited once an epoch, and ranks share them', async (t) => {
  const pictures: Uint8Array[] = [];
  for (let i = 0; i < 12; i++) pictures.push(await pngOf(9, 9, i));
  const source = memorySource(pictures);
  const visited = (batches: CropBatch[]) => batches.flatMap((batch) => [...batch.indices]);
  const epoch = visited(await take(source, { batchSize: 4 }, 3));
  t.deepEqual(
    [...epoch].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  );
  const ranks = await Promise.all([0, 1].map((rank) => take(source, { batchSize: 3, rank, world: 2 }, 2)));
  t.equal(new Set(ranks.flatMap(visited)).size, 12, 'two ranks have disjoint pictures');
  t.notDeepEqual(ranks[0][0].globalCrops, ranks[1][0].globalCrops);
  const larger = visited(await take(memorySource(pictures.slice(0, 2)), { batchSize: 7 }, 2));
  t.equal(larger.filter((index) => index === 0).length, 7, 'a batch may be larger than the source');
});

test('corrupt pictures are replaced, counted once and named', async (t) => {
  const source = memorySource(await mixedPictures());
  const reported: BadPicture[] = [];
  const loader = new MultiCropLoader(source, {
    settings: SETTINGS,
    batchSize: 6,
    seed: 1,
    workers: 1,
    onBad: (bad) => reported.push(bad),
  });
  const seen = new Set<number>();
  for (let i = 0; i < 8; i++) for (const index of (await loader.next()).indices) seen.add(index);
  await loader.close();
  t.notOk(seen.has(3) || seen.has(8), 'no slot shows a corrupt picture');
  t.equal(seen.size, 10, 'all others are used');
  t.deepEqual(reported.map((bad) => bad.name).sort(), ['picture 3', 'picture 8'], 'each reported once');
  t.deepEqual([...loader.badPictures.keys()].sort(), ['picture 3', 'picture 8']);
  t.match(loader.badPictures.get('picture 8') ?? '', /not a picture/);
});

test('one good picture among many corrupt ones is found', async (t) => {
  const pictures: Uint8Array[] = Array.from({ length: 200 }, () => Buffer.from('x'));
  pictures[137] = await pngOf(8, 8);
  const [batch] = await take(memorySource(pictures), {}, 1);
  t.deepEqual([...batch.indices], [137, 137, 137, 137, 137]);
});

test('nothing usable, and other failures, reach whoever asks for the batch', async (t) => {
  const bad = memorySource(Array.from({ length: 9 }, () => Buffer.from('x')));
  for (const workers of [0, 1]) {
    const error = await failure(take(bad, { workers }, 1));
    t.ok(error instanceof DataError && /all 9 pictures in memory are corrupt/.test(error.message), String(error));
  }
  const broken: ImageSource = {
    ...memorySource([await pngOf(8, 8)]),
    read: () => Promise.reject(new TypeError('a programming error')),
  };
  t.ok((await failure(take(broken, {}, 1))) instanceof TypeError, 'only data errors are skipped');
  t.throws(() => new MultiCropLoader(memorySource([]), { settings: SETTINGS, batchSize: 1, seed: 0 }), DataError);
});

test('closing waits for the source and refuses what comes later', async (t) => {
  const pictures = await mixedPictures();
  for (const workers of [0, 1]) {
    let reading = 0;
    const source: ImageSource = {
      ...memorySource(pictures),
      read: async (index) => {
        reading++;
        await new Promise((resolve) => setTimeout(resolve, 2));
        reading--;
        return pictures[index];
      },
    };
    const loader = new MultiCropLoader(source, { settings: SETTINGS, batchSize: 12, seed: 0, workers });
    const asked = loader.next();
    await loader.close();
    t.equal(reading, 0, 'the source is no longer read');
    t.ok((await failure(asked)) instanceof WebdinoError, 'a batch that was asked for is refused');
    t.ok((await failure(loader.next())) instanceof WebdinoError);
    await loader.close();
  }
  // Closing in the middle of the prefetched batches, again and again: a worker's last replies must not end the program.
  const quick = memorySource([await pngOf(9, 9)]);
  for (let i = 0; i < 10; i++) {
    const loader = new MultiCropLoader(quick, { settings: SETTINGS, batchSize: 20, seed: i, workers: 1 });
    await loader.next();
    await loader.next();
    await loader.close();
  }
  t.pass('closed ten times while batches were under way');
});

test('a thousand pictures with twenty bad files train, and the bad ones are named', async (t) => {
  const good = await Promise.all([0, 1, 2, 3].map((variant) => pngOf(12, 10, variant)));
  const jpeg = await sharp(good[0]).jpeg().toBuffer();
  const enormous = Buffer.from(good[0]);
  enormous.writeUInt32BE(0x7fffff, 16);
  const cmyk = await sharp(good[1]).toColourspace('cmyk').jpeg().toBuffer();
  const sixteen = await sharp(good[2]).toColourspace('rgb16').png().toBuffer();
  // Four of each kind that cannot be used; CMYK, 16-bit and one-pixel pictures can.
  const bad: Entry[] = [0, 1, 2, 3].flatMap((i): Entry[] => [
    [`c/truncated${i}.jpg`, jpeg.subarray(0, 200 + 10 * i)],
    [`c/zero${i}.jpg`, ''],
    [`c/text${i}.jpg`, 'hello there\n'],
    [`c/enormous${i}.png`, enormous],
    [`c/cut${i}.png`, good[i].subarray(0, good[i].length >> 1)],
  ]);
  const unusual: Entry[] = [
    ['d/cmyk.jpg', cmyk],
    ['d/sixteen.png', sixteen],
    ['d/one.png', await pngOf(1, 1)],
  ];
  const ordinary = Array.from({ length: 977 }, (_, i): Entry => [`${i % 2 ? 'a' : 'b'}/${i}.png`, good[i % 4]]);
  await withFolder(async (folder) => {
    const entries = [...ordinary, ...unusual, ...bad];
    writeFolder(join(folder, 'set'), entries);
    writeFileSync(join(folder, 'set.zip'), zipArchive(entries, true));
    for (const path of ['set', 'set.zip']) {
      const source = await openSource(join(folder, path));
      t.equal(source.length, 1000);
      const loader = new MultiCropLoader(source, { settings: SETTINGS, batchSize: 100, seed: 3, workers: 1 });
      const seen = new Set<number>();
      for (let i = 0; i < 10; i++) for (const index of (await loader.next()).indices) seen.add(index);
      await loader.close();
      t.deepEqual(
        [...loader.badPictures.keys()].sort(),
        bad.map(([name]) => name).sort(),
        `${path}: all bad ones named`,
      );
      t.equal(seen.size, 980, 'every other picture was used in the epoch');

      const named: string[] = [];
      let count = 0;
      const options = { resize: 8, crop: 8, batchSize: 64, onBad: ({ name }: BadPicture) => named.push(name) };
      for await (const batch of evaluationBatches(source, options)) count += batch.indices.length;
      t.equal(count, 980, 'evaluation sees the same pictures');
      t.deepEqual(named.sort(), bad.map(([name]) => name).sort());
      await source.close();
    }
  });
});

test('evaluation goes through the source in order', async (t) => {
  const pictures = await mixedPictures();
  const source = memorySource(pictures);
  const named: string[] = [];
  const batches: { pixels: Uint8Array; indices: number[] }[] = [];
  const options = { resize: 12, crop: 10, batchSize: 4 };
  for await (const batch of evaluationBatches(source, { ...options, onBad: ({ name }) => named.push(name) })) {
    t.equal(batch.pixels.length, batch.indices.length * 300);
    batches.push(batch);
  }
  t.deepEqual(
    batches.map((batch) => batch.indices),
    [
      [0, 1, 2, 4],
      [5, 6, 7, 9],
      [10, 11],
    ],
  );
  t.deepEqual(named, ['picture 3', 'picture 8']);
  const some: number[] = [];
  for await (const { indices, pixels } of evaluationBatches(source, { ...options, indices: [11, 3, 5] })) {
    some.push(...indices);
    t.deepEqual(pixels.subarray(0, 300), batches[2].pixels.subarray(300, 600), 'the same pixels in another order');
  }
  t.deepEqual(some, [11, 5]);
  for await (const _ of evaluationBatches(source, options)) break;
  const error = await failure(evaluationBatches(memorySource([Buffer.from('x')]), options).next());
  t.ok(error instanceof DataError && /all 1 pictures/.test(error.message), String(error));
});

test('real pictures through workers', async (t) => {
  if (!existsSync(shared)) {
    t.comment('no shared data beside the project: skipped');
    return;
  }
  const source = await openSource(join(shared, 'pool/pool.tar'));
  const settings = { ...DEFAULT_CROPS, globalSize: 32, localSize: 16, localCount: 2 };
  const here = await take(source, { settings, batchSize: 16 }, 3);
  t.deepEqual(await take(source, { settings, batchSize: 16, workers: 2 }, 3), here);
  const { globalCrops } = here[0];
  const mean = globalCrops.reduce((a, b) => a + b) / globalCrops.length;
  t.ok(mean > 60 && mean < 190, `mean level of photographs ${mean}`);
  await source.close();
});
