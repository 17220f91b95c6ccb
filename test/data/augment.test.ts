import { crc32 } from 'node:zlib';
import test from 'tape';
import {
  type AugmentRandom,
  type CropParameters,
  DEFAULT_CROPS,
  drawCrop,
  evalCrop,
  multiCrop,
  randomCropBox,
  renderCrop,
  type View,
} from '../../src/data/augment.js';
import { gaussianBlur, solarize, toGrayscale } from '../../src/data/colour.js';
import { CounterRandom } from '../../src/data/random.js';
import { resizeRgb } from '../../src/data/resize.js';
import { formulaPicture } from './archives.js';

/** CRC-32 of Resize(short) + CenterCrop(side) with Pillow 12.3: width, height, short side, crop. */
const PILLOW_EVALUATION = [
  [128, 96, 64, 56, 0xf8ae746b],
  [75, 120, 73, 64, 0xeeac34cc],
  [50, 200, 32, 48, 0x96a7ff48],
  [33, 33, 40, 40, 0x03c1d5e1],
  [61, 47, 47, 44, 0x0a51654e],
];

test('the evaluation transform equals Pillow and torchvision bit for bit', (t) => {
  for (const [width, height, short, side, want] of PILLOW_EVALUATION) {
    t.equal(crc32(evalCrop(formulaPicture(width, height), short, side)), want, `${width}×${height}, ${short}, ${side}`);
  }
  t.end();
});

test('random crop boxes lie inside, with the scale and aspect asked for', (t) => {
  const draws = 3000;
  const [width, height] = [200, 150];
  let inside = 0;
  let areas = 0;
  let logAspects = 0;
  for (let i = 0; i < draws; i++) {
    const box = randomCropBox(width, height, [0.05, 0.32], new CounterRandom(1, i));
    const area = (box.width * box.height) / (width * height);
    const aspect = box.width / box.height;
    const fits = box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
    // A pixel of rounding on a side of 30 is 3 %.
    if (fits && area > 0.045 && area < 0.34 && aspect > 0.71 && aspect < 1.41) inside++;
    areas += area / draws;
    logAspects += Math.log(aspect) / draws;
  }
  t.equal(inside, draws);
  t.ok(Math.abs(areas - 0.185) < 0.01, `mean area ${areas}`);
  t.ok(Math.abs(logAspects) < 0.015, `mean log aspect ${logAspects}`);
  t.end();
});

test('a picture that no try fits gets the centred fallback', (t) => {
  // Always the largest area and aspect 1: never fits a strip.
  const stubborn: AugmentRandom = {
    uniform: (lo = 0, hi = 1) => (lo < 0 ? 0 : hi),
    integer: (lo) => lo,
    permutation: (n) => new Uint32Array(n),
  };
  t.deepEqual(randomCropBox(300, 30, [1, 1], stubborn), { x: 130, y: 0, width: 40, height: 30 }, 'wide: aspect 4/3');
  t.deepEqual(randomCropBox(30, 301, [1, 1], stubborn), { x: 0, y: 130, width: 30, height: 40 }, 'tall: aspect 3/4');
  t.deepEqual(randomCropBox(1, 1, [0.05, 0.32], stubborn), { x: 0, y: 0, width: 1, height: 1 });
  t.end();
});

test('views are drawn with the official probabilities and ranges', (t) => {
  const draws = 3000;
  const share = (view: View, happens: (crop: CropParameters) => boolean) => {
    let count = 0;
    for (let i = 0; i < draws; i++) {
      if (happens(drawCrop(view, 128, 96, DEFAULT_CROPS, new CounterRandom(8, i)))) count++;
    }
    return count / draws;
  };
  const near = (got: number, want: number, what: string) => t.ok(Math.abs(got - want) < 0.035, `${what}: ${got}`);
  for (const view of ['global1', 'global2', 'local'] as const) {
    near(
      share(view, (c) => c.flip),
      0.5,
      `${view} flip`,
    );
    near(
      share(view, (c) => c.jitter !== undefined),
      0.8,
      `${view} jitter`,
    );
    near(
      share(view, (c) => c.grayscale),
      0.2,
      `${view} greyscale`,
    );
  }
  t.equal(
    share('global1', (c) => c.blurSigma !== undefined),
    0,
    'the first global view is never blurred',
  );
  near(
    share('global2', (c) => c.blurSigma !== undefined),
    0.9,
    'global2 blur',
  );
  near(
    share('local', (c) => c.blurSigma !== undefined),
    0.5,
    'local blur',
  );
  near(
    share('global2', (c) => c.solarize),
    0.2,
    'global2 solarize',
  );
  t.equal(share('global1', (c) => c.solarize) + share('local', (c) => c.solarize), 0);
  const between = (value: number, lo: number, hi: number) => value >= lo && value <= hi;
  const inRange = share('global2', ({ jitter: j, blurSigma }) => {
    const blurred = blurSigma === undefined || between(blurSigma, 0.1, 2);
    if (!j) return blurred;
    const order = Array.from(j.order).sort().join('') === '0123';
    return (
      blurred &&
      order &&
      between(j.brightness, 0.6, 1.4) &&
      between(j.contrast, 0.6, 1.4) &&
      between(j.saturation, 0.8, 1.2) &&
      between(j.hue, -0.1, 0.1)
    );
  });
  t.equal(inRange, 1);
  t.end();
});

test('a view is rendered crop, flip, jitter, greyscale, blur, solarize', (t) => {
  const image = formulaPicture(70, 50);
  const box = { x: 10, y: 4, width: 40, height: 44 };
  const plain: CropParameters = { box, flip: false, grayscale: false, solarize: false };
  const render = (parameters: CropParameters) => {
    const out = new Uint8Array(32 * 32 * 3);
    renderCrop(image, parameters, 32, out);
    return out;
  };
  const resized = resizeRgb(image, 32, 32, box).data;
  t.deepEqual(render(plain), resized);
  const flipped = render({ ...plain, flip: true });
  const mirrored = resized.map((_, i) => {
    const [pixel, c] = [Math.floor(i / 3), i % 3];
    return resized[(pixel - (pixel % 32) + 31 - (pixel % 32)) * 3 + c];
  });
  t.deepEqual(flipped, mirrored);
  const want = mirrored.slice();
  toGrayscale(want);
  gaussianBlur(want, 32, 32, 1.5);
  solarize(want);
  t.deepEqual(render({ ...plain, flip: true, grayscale: true, blurSigma: 1.5, solarize: true }), want);
  const jitter = { brightness: 0.7, contrast: 1.3, saturation: 0.8, hue: 0.05 };
  const one = render({ ...plain, jitter: { ...jitter, order: [0, 1, 2, 3] } });
  t.notDeepEqual(one, render({ ...plain, jitter: { ...jitter, order: [3, 2, 1, 0] } }), 'the order matters');
  t.end();
});

test('multiCrop gives all views, the same for the same random numbers', (t) => {
  const settings = { ...DEFAULT_CROPS, globalSize: 32, localSize: 16, localCount: 3 };
  for (const [width, height] of [
    [90, 70],
    [1, 1],
    [2, 300],
    [32, 32],
  ]) {
    const image = formulaPicture(width, height);
    const views = multiCrop(image, settings, new CounterRandom(1, 2));
    t.deepEqual(
      [...views.global, ...views.local].map((view) => view.length),
      [3072, 3072, 768, 768, 768],
      `${width}×${height}`,
    );
    t.deepEqual(multiCrop(image, settings, new CounterRandom(1, 2)), views);
  }
  const image = formulaPicture(90, 70);
  const few = multiCrop(image, settings, new CounterRandom(1, 2));
  const many = multiCrop(image, { ...settings, localCount: 5 }, new CounterRandom(1, 2));
  t.deepEqual(many.local.slice(0, 3), few.local, 'more local views leave the others as they are');
  t.notDeepEqual(few.global[0], few.global[1]);
  t.end();
});
