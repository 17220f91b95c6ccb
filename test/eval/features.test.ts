import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { evaluationBatches } from '../../src/data/evaluation_loader.js';
import { openSource } from '../../src/data/source.js';
import { finalNorm, patchRows, tokenRows, vitForward, weightsOf } from '../../src/dinov2/vit.js';
import { DataError, UsageError } from '../../src/errors.js';
import { collectFeatures, extractFeatures, FeatureExtractor, fittingBatch } from '../../src/eval/features.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { pngOf, withFolder, writeFolder } from '../data/archives.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import { TINY_VIT, tinyStore } from './tiny_model.js';

const SIDE = 32;
const PICTURE_BYTES = SIDE * SIDE * 3;
const D = TINY_VIT.embedDim;

/** u8 [n, 32, 32, 3] */
function pictures(n: number, seed: number): Uint8Array {
  return Uint8Array.from(noise(n * PICTURE_BYTES, seed), (value) => 127.5 + 127 * value);
}

test('FeatureExtractor: what the network gives for normalised pixels, pooled three ways', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  const store = await tinyStore(undefined, undefined, 'backbone.');
  const n = 3;
  const pixels = pictures(n, 1);
  const extractor = new FeatureExtractor(gpu, {
    vit: TINY_VIT,
    weights: store,
    prefix: 'backbone.',
    batch: n,
    size: SIDE,
    pooling: 'cls+patch-mean',
    patches: true,
  });
  await extractor.compile();
  t.deepEqual([extractor.dim, ...extractor.grid], [2 * D, 4, 4], 'dimensions');

  // The same through the network's own float input.
  const [mean, deviation] = [
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
  ];
  const floats = new Float32Array(n * PICTURE_BYTES);
  for (let i = 0; i < floats.length; i++) {
    const picture = Math.floor(i / PICTURE_BYTES);
    const channel = Math.floor(i / (SIDE * SIDE)) % 3;
    const byte = pixels[picture * PICTURE_BYTES + (i % (SIDE * SIDE)) * 3 + channel];
    floats[i] = (byte / 255 - mean[channel]) / deviation[channel];
  }
  const program = new Program(gpu, 'reference');
  const graph = new Graph(program);
  const image = program.input('image', [n, 3, SIDE, SIDE]);
  program.write(image, floats);
  const weights = weightsOf(store, 'backbone.');
  const { tokens, sequences } = vitForward(graph, TINY_VIT, weights, [
    { pixels: image, count: n, height: SIDE, width: SIDE },
  ]);
  const normed = program.keep(finalNorm(graph, weights, tokens));
  await program.compile();
  program.run();
  const all = await program.read(normed);
  const rows = (wanted: number[]): number[] => wanted.flatMap((row) => [...all.subarray(row * D, (row + 1) * D)]);
  const cls = rows(tokenRows(sequences, 0, 0));
  const patches = rows(patchRows(TINY_VIT, sequences, 0));

  allClose(t, await extractor.cls(pixels, n), cls, 'cls');
  allClose(t, await extractor.tokens(pixels, n), patches, 'patch tokens');
  const expected = Array.from({ length: n * 2 * D }, (_, i) => {
    const [picture, c] = [Math.floor(i / (2 * D)), i % (2 * D)];
    if (c < D) return cls[picture * D + c];
    let sum = 0;
    for (let p = 0; p < 16; p++) sum += patches[(picture * 16 + p) * D + c - D];
    return sum / 16;
  });
  allClose(t, await extractor.features(pixels, n), expected, 'cls beside the mean patch');
  for (const owned of [program, extractor, store]) owned.dispose();
  t.deepEqual(gpu.memory, before, 'dispose() frees everything');
});

test('FeatureExtractor: a batch equals its single pictures; what pads it does not leak; calls overlap', async (t) => {
  const gpu = await testGpu();
  const weights = await tinyStore();
  const make = async (batch: number): Promise<FeatureExtractor> => {
    const extractor = new FeatureExtractor(gpu, { vit: TINY_VIT, weights, batch, size: SIDE });
    await extractor.compile();
    return extractor;
  };
  const [four, one] = [await make(4), await make(1)];
  const pixels = pictures(4, 2);
  const whole = await four.features(pixels, 4);
  for (let i = 0; i < 4; i++) {
    const picture = pixels.subarray(i * PICTURE_BYTES, (i + 1) * PICTURE_BYTES);
    const row = whole.subarray(i * D, (i + 1) * D);
    allClose(t, await one.features(picture, 1), row, `picture ${i} alone`);
    sameBits(
      t,
      await four.features(picture, 1),
      await four.features(picture, 1),
      `picture ${i}, padded: twice the same`,
    );
    allClose(t, await four.features(picture, 1), row, `picture ${i}, padded`);
  }
  const firstThree = pixels.subarray(0, 3 * PICTURE_BYTES);
  const overlapping = await Promise.all([
    four.features(pixels, 4),
    four.features(firstThree, 3),
    four.features(pixels, 4),
  ]);
  sameBits(t, overlapping[0], whole, 'the first of three calls at once');
  sameBits(t, overlapping[1], whole.slice(0, 3 * D), 'the second, of three pictures');
  sameBits(t, overlapping[2], whole, 'the third');
  t.equal(new Set([0, 1, 2, 3].map((i) => whole[i * D].toFixed(4))).size, 4, 'the four pictures differ');
  for (const owned of [four, one, weights]) owned.dispose();
});

test('FeatureExtractor in half precision: the features of float32 up to rounding, read as float32', async (t) => {
  const gpu = await testGpu();
  const weights = await tinyStore();
  const n = 3;
  const pixels = pictures(n, 4);
  const featuresIn = async (dtype: 'f32' | 'f16'): Promise<Float32Array[]> => {
    const pooling = 'cls+patch-mean';
    const options = { vit: TINY_VIT, weights, batch: n, size: SIDE, pooling, patches: true, dtype } as const;
    const extractor = new FeatureExtractor(gpu, options);
    await extractor.compile();
    const found = [await extractor.features(pixels, n), await extractor.tokens(pixels, n)];
    sameBits(t, await extractor.features(pixels, n), found[0], `${dtype}: the same bits twice`);
    extractor.dispose();
    return found;
  };
  const [pooled, tokens] = await featuresIn('f32');
  const [halfPooled, halfTokens] = await featuresIn('f16');
  allClose(t, halfPooled, pooled, 'pooled', { relative: 1e-2 });
  allClose(t, halfTokens, tokens, 'patch tokens', { relative: 1e-2 });
  t.ok(
    tokens.some((value, i) => value !== halfTokens[i]),
    'they are not the same network twice',
  );

  // The half copy follows its weights.
  await weights.writeAll(new Map([['norm.weight', new Float32Array(D)]]));
  const [, onlyBias] = await featuresIn('f16');
  const bias = (await weights.readAll(['norm.bias'])).get('norm.bias')!;
  allClose(t, onlyBias.subarray(0, D), bias, 'without its scale the last norm gives its bias', { relative: 1e-3 });
  weights.dispose();

  const narrow = { ...TINY_VIT, embedDim: 60 };
  const odd = await tinyStore(narrow);
  try {
    new FeatureExtractor(gpu, { vit: narrow, weights: odd, batch: 1, size: SIDE, dtype: 'f16' });
    t.fail('a width of 60 was taken');
  } catch (error) {
    t.ok(/tokens of 60 columns: .* a multiple of 8: .*--dtype f32/.test((error as Error).message), 'a width of 60');
  }
  odd.dispose();
});

test('FeatureExtractor: other sizes than the position table, and refusals', async (t) => {
  const gpu = await testGpu();
  const weights = await tinyStore();
  const options = { vit: TINY_VIT, weights, batch: 2, size: SIDE };
  const wide = new FeatureExtractor(gpu, { ...options, size: [16, 40], patches: true });
  await wide.compile();
  const tokens = await wide.tokens(new Uint8Array(16 * 40 * 3).fill(99), 1);
  t.equal(tokens.length, 2 * 5 * D, 'a wide picture has 2 x 5 patches');
  t.ok(tokens.every(Number.isFinite));
  const refused = async (what: string, pattern: RegExp, body: () => unknown): Promise<void> => {
    try {
      await body();
      t.fail(`${what}: was taken`);
    } catch (error) {
      t.ok(error instanceof UsageError && pattern.test(error.message), `${what}: ${(error as Error).message}`);
    }
  };
  await refused('a size between patches', /use 32/, () => new FeatureExtractor(gpu, { ...options, size: 30 }));
  await refused('no batch', /batch of 0/, () => new FeatureExtractor(gpu, { ...options, batch: 0 }));
  await refused('too many pictures', /3 pictures for an extractor of 1 to 2/, () => wide.cls(new Uint8Array(1), 3));
  await refused('too few bytes', /1 x 16 x 40 x 3/, () => wide.cls(new Uint8Array(7), 1));
  const cls = new FeatureExtractor(gpu, options);
  await refused('no patch tokens', /without patch tokens/, () => cls.tokens(new Uint8Array(PICTURE_BYTES), 1));
  const means = new FeatureExtractor(gpu, { ...options, pooling: 'patch-mean' });
  await refused('no CLS tokens', /no CLS/, () => means.cls(new Uint8Array(PICTURE_BYTES), 1));
  t.equal(fittingBatch(gpu, TINY_VIT, SIDE, 8), 8, 'a small network takes the batch wanted');
  const large = { ...TINY_VIT, embedDim: 4096, mlpRatio: 4 };
  t.equal(fittingBatch(gpu, large, 8 * 512, 64), 1, 'a giant one a picture at a time');
  for (const owned of [wide, cls, means, weights]) owned.dispose();
});

test('extractFeatures: rows in the order of the source, bad pictures left out, the last batch kept', async (t) => {
  await withFolder(async (folder) => {
    const entries = await Promise.all(
      [0, 1, 2, 3, 4, 5].map(async (i) => [`${i % 2}_c/${i}.png`, await pngOf(40 + i, 36, i)] as const),
    );
    writeFolder(folder, [...entries, ['0_c/1_bad.png', 'not a picture']]);
    const source = await openSource(folder);
    const gpu = await testGpu();
    const weights = await tinyStore();
    const extractor = new FeatureExtractor(gpu, { vit: TINY_VIT, weights, batch: 4, size: SIDE });
    await extractor.compile();
    const bad: string[] = [];
    const done: number[] = [];
    const found = await extractFeatures(extractor, source, {
      resize: 36,
      onBad: ({ name }) => bad.push(name),
      onProgress: (count) => done.push(count),
    });
    t.deepEqual(
      found.indices.map((i) => source.name(i)).sort(),
      entries.map(([name]) => name).sort(),
      'all but the bad one',
    );
    t.deepEqual(
      found.labels,
      found.indices.map((i) => source.label(i)),
      'labels',
    );
    t.deepEqual(bad, ['0_c/1_bad.png'], 'the bad one is named');
    t.deepEqual(done, [4, 6], 'a batch of four, then the other two');
    t.equal(found.features.length, 6 * D);
    for await (const { pixels } of evaluationBatches(source, {
      resize: 36,
      crop: SIDE,
      batchSize: 1,
      indices: found.indices.slice(5),
    })) {
      allClose(
        t,
        found.features.subarray(5 * D),
        await extractor.features(pixels, 1),
        'the last row is the last picture',
      );
    }
    const some = await extractFeatures(extractor, source, { resize: 36, indices: [found.indices[3]] });
    allClose(t, some.features, found.features.subarray(3 * D, 4 * D), 'a chosen picture');

    try {
      await collectFeatures(source, { resize: 36, crop: SIDE, batchSize: 1, dim: D }, async (_, n) => {
        if (n > 0) throw new UsageError('no');
        return new Float32Array();
      });
      t.fail('a failing network was not noticed');
    } catch (error) {
      t.equal((error as Error).message, 'no', 'a failure of the network ends the pass');
    }
    await Promise.all(entries.map(([name]) => rm(join(folder, name))));
    try {
      await extractFeatures(extractor, source, { resize: 36 });
      t.fail('a source without pictures gave features');
    } catch (error) {
      t.ok(error instanceof DataError, (error as Error).message);
    }
    for (const owned of [extractor, weights]) owned.dispose();
    await source.close();
  });
});
