import test from 'tape';
import { vitParameters } from '../../src/dinov2/vit.js';
import { FeatureExtractor } from '../../src/eval/features.js';
import { histogramModel, pixelModel, randomModel } from '../../src/eval/floor_models.js';
import { networkModel } from '../../src/eval/network_model.js';
import { UsageError } from '../../src/errors.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { allClose, sameBits, testGpu } from '../fixture.js';
import { TINY_VIT, tinyStore } from './tiny_model.js';

const VIT = { ...TINY_VIT, registers: 2 };

function somePixels(n: number, height: number, width: number): Uint8Array {
  return Uint8Array.from({ length: n * height * width * 3 }, (_, i) => (i * 37 + (i >> 5) * 11) % 256);
}

test('network model: the normed last level is what the feature extractor gives', async (t) => {
  const gpu = await testGpu();
  const model = networkModel(gpu, { name: 'tiny', vit: VIT, weights: await tinyStore(VIT) });
  const size = [24, 40] as const;
  const pixels = somePixels(2, ...size);
  const reader = await model.open({ size, batch: 3, blocks: [0, 1], norm: true, patches: true });
  t.deepEqual(reader.grid, [3, 5]);
  const tokens = await reader.read(pixels, 2);
  const extractor = new FeatureExtractor(gpu, {
    vit: VIT,
    weights: await tinyStore(VIT),
    batch: 2,
    size,
    patches: true,
  });
  await extractor.compile();
  allClose(t, tokens.cls[1], await extractor.cls(pixels, 2), 'CLS');
  allClose(t, tokens.patches[1], await extractor.tokens(pixels, 2), 'patches');
  t.equal(tokens.patches[0].length, 2 * 15 * VIT.embedDim, 'the padded picture is dropped');
  const again = await reader.read(pixels, 2);
  sameBits(t, tokens.patches[0], again.patches[0], 'the same bits twice');
  extractor.dispose();
  reader.dispose();

  const raw = await model.open({ size, batch: 2, blocks: [1], norm: false, patches: true });
  const before = await raw.read(pixels, 2);
  raw.dispose();
  // The tiny model's final norm has a weight and a bias of its own: undo them by the definition.
  const store = await tinyStore(VIT);
  const [weight, bias] = await Promise.all(['norm.weight', 'norm.bias'].map((name) => store.readAll([name])));
  const D = VIT.embedDim;
  const normed = Float64Array.from(before.patches[0], (_, i) => {
    const row = before.patches[0].subarray(D * Math.floor(i / D), D * Math.floor(i / D) + D);
    const mean = row.reduce((a, b) => a + b, 0) / D;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / D;
    const value = (before.patches[0][i] - mean) / Math.sqrt(variance + 1e-6);
    return value * weight.get('norm.weight')![i % D] + bias.get('norm.bias')![i % D];
  });
  allClose(t, tokens.patches[1], normed, 'without the norm: what the norm is taken of', { absolute: 1e-4 });
  store.dispose();
  model.dispose();
});

test('network model: requests that cannot be are refused with the cure', async (t) => {
  const model = await randomModel(await testGpu(), TINY_VIT);
  const request = { size: [32, 32] as const, batch: 1, blocks: [1], norm: true, patches: false };
  for (const [wrong, message] of [
    [{ size: [32, 30] as const }, /do not divide into patches of 8: use 32 for 30/],
    [{ blocks: [2] }, /give increasing numbers from 0 to 1/],
    [{ blocks: [1, 0] }, /give increasing numbers/],
    [{ blocks: [] }, /blocks none/],
    [{ batch: 0 }, /a batch of 0 pictures/],
  ] as const) {
    await model.open({ ...request, ...wrong }).then(
      () => t.fail('was not refused'),
      (error) => t.ok(error instanceof UsageError && message.test(error.message), (error as Error).message),
    );
  }
  const reader = await model.open(request);
  await reader.read(somePixels(1, 32, 16), 1).then(
    () => t.fail('was not refused'),
    (error) => t.match((error as Error).message, /1 x 32 x 32 x 3 were expected/),
  );
  reader.dispose();
  t.ok(model.floor, 'random weights are a floor');
  model.dispose();
});

test('floors: cells and histograms of known pictures', async (t) => {
  // Left half red, right half dark: 2 pictures, the second all dark.
  const [side, P] = [24, 8];
  const pixels = new Uint8Array(2 * side * side * 3);
  for (let y = 0; y < side; y++) for (let x = 0; x < side / 2; x++) pixels[3 * (y * side + x)] = 255;
  const request = { size: [side, side] as const, batch: 2, blocks: [0], norm: true, patches: true };

  const cells = await (await pixelModel(P).open(request)).read(pixels, 2);
  t.equal(cells.cls[0].length, 2 * 3 * 12 * 12);
  const red = cells.cls[0].subarray(0, 432);
  // A sixth of all values is 1.
  allClose(t, [red[0], red[1], red[18]], [5 / 6, -1 / 6, -1 / 6], 'cells without their mean');
  t.ok(
    cells.cls[0].subarray(432).every((v) => v === 0),
    'a picture of one colour is zero',
  );
  const patch = cells.patches[0].subarray(0, 3 * 64);
  allClose(t, [patch[0], patch[1]], [1, 0], 'a patch keeps its brightness');

  const bins = await (await histogramModel(P).open(request)).read(pixels, 2);
  allClose(t, [bins.cls[0][48], bins.cls[0][0], bins.cls[0][64]], [Math.SQRT1_2, Math.SQRT1_2, 1], 'picture');
  const squares = bins.patches[0].subarray(0, 64).reduce((a, b) => a + b * b, 0);
  allClose(t, [squares], [1], 'a histogram has length one');
  // The first patch sees itself and its neighbours: 16 columns, of which 12 are red.
  allClose(t, [bins.patches[0][48]], [Math.sqrt(12 / 16)], 'patch with neighbours');
});

test('a store of the wrong names is refused when the network is recorded', async (t) => {
  const gpu = await testGpu();
  const weights = new ParameterStore(gpu, 'prefixed', vitParameters(TINY_VIT, 'backbone.'));
  const model = networkModel(gpu, { name: 'tiny', vit: TINY_VIT, weights });
  await model.open({ size: [32, 32], batch: 1, blocks: [1], norm: true, patches: false }).then(
    () => t.fail('was not refused'),
    (error) => t.match((error as Error).message, /has no parameter/),
  );
  model.dispose();
});
