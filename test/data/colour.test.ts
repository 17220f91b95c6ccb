import { crc32 } from 'node:zlib';
import test from 'tape';
import {
  adjustBrightness,
  adjustContrast,
  adjustHue,
  adjustSaturation,
  gaussianBlur,
  solarize,
  toGrayscale,
} from '../../src/data/colour.js';
import { formulaPicture } from './archives.js';

/** CRC-32 of Pillow 12.3's ImageEnhance / HSV results on the 61 × 47 formula picture. */
const PILLOW: [(pixels: Uint8Array, factor: number) => void, number, number][] = [
  [adjustBrightness, 0.0, 0x0e3a4c83],
  [adjustBrightness, 0.63, 0xab41a8df],
  [adjustBrightness, 1.0, 0x52c8c633],
  [adjustBrightness, 1.37, 0x647f0524],
  [adjustContrast, 0.0, 0x743d7c30],
  [adjustContrast, 0.63, 0xf022a2f7],
  [adjustContrast, 1.0, 0x52c8c633],
  [adjustContrast, 1.37, 0x29634b5a],
  [adjustSaturation, 0.0, 0xc1390398],
  [adjustSaturation, 0.63, 0x5abc18a5],
  [adjustSaturation, 1.0, 0x52c8c633],
  [adjustSaturation, 1.37, 0xae625fd2],
  [adjustHue, 0.0, 0x7e17d3a3],
  [adjustHue, 0.0731, 0x8f009c95],
  [adjustHue, -0.1, 0x99c75bc3],
  [adjustHue, 0.25, 0x0993e57f],
];

test('colour operations equal Pillow bit for bit', (t) => {
  for (const [operation, factor, want] of PILLOW) {
    const { data } = formulaPicture(61, 47);
    operation(data, factor);
    t.equal(crc32(data), want, `${operation.name} ${factor}`);
  }
  const grey = formulaPicture(61, 47).data;
  toGrayscale(grey);
  t.equal(crc32(grey), 0xc1390398, 'greyscale');
  const inverted = formulaPicture(61, 47).data;
  solarize(inverted);
  t.equal(crc32(inverted), 0xa3cca604, 'solarize');
  t.end();
});

test('colour operations on values worked out by hand', (t) => {
  const apply = (values: number[], operation: (pixels: Uint8Array) => void) => {
    const pixels = Uint8Array.from(values);
    operation(pixels);
    return [...pixels];
  };
  t.deepEqual(
    apply([101, 200, 3], (p) => adjustBrightness(p, 0.5)),
    [50, 100, 1],
    'half, cut',
  );
  t.deepEqual(
    apply([101, 200, 3], (p) => adjustBrightness(p, 1.5)),
    [151, 255, 4],
    'clipped',
  );
  // Luma of the two greys is 100 and 201, their mean 150.5, so the constant is int(151.0).
  t.deepEqual(
    apply([100, 100, 100, 201, 201, 201], (p) => adjustContrast(p, 0.5)),
    [125, 125, 125, 176, 176, 176],
  );
  // Luma of pure red: (255·19595 + 32768) >> 16 = 76.
  t.deepEqual(apply([255, 0, 0], toGrayscale), [76, 76, 76]);
  t.deepEqual(
    apply([255, 0, 0], (p) => adjustSaturation(p, 0.5)),
    [165, 38, 38],
  );
  t.deepEqual(
    apply([127, 128, 255], (p) => solarize(p)),
    [127, 127, 0],
  );
  // A third of a turn is 84 of 255 steps: red becomes (nearly) green.
  const [r, g, b] = apply([255, 0, 0], (p) => adjustHue(p, 1 / 3));
  t.ok(g === 255 && r < 8 && b === 0, `${r} ${g} ${b}`);
  t.deepEqual(
    apply([90, 90, 90], (p) => adjustHue(p, 0.3)),
    [90, 90, 90],
    'grey has no hue',
  );
  t.end();
});

test('the blur is the outer product of two 9-tap Gaussians with reflected borders', (t) => {
  const mirror = (i: number, n: number) => (i < 0 ? -i : i >= n ? 2 * n - 2 - i : i);
  for (const [width, height, sigma] of [
    [17, 12, 1.3],
    [9, 30, 2],
    [16, 16, 0.1],
  ]) {
    const { data } = formulaPicture(width, height);
    const kernel = Array.from({ length: 9 }, (_, i) => Math.exp(-((i - 4) ** 2) / (2 * sigma * sigma)));
    const sum = kernel.reduce((a, b) => a + b);
    const want = new Float64Array(data.length);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          let value = 0;
          for (let i = 0; i < 9; i++) {
            for (let j = 0; j < 9; j++) {
              const from = mirror(y + i - 4, height) * width + mirror(x + j - 4, width);
              value += ((kernel[i] * kernel[j]) / sum ** 2) * data[from * 3 + c];
            }
          }
          want[(y * width + x) * 3 + c] = value;
        }
      }
    }
    const got = data.slice();
    gaussianBlur(got, width, height, sigma);
    const worst = want.reduce((most, value, i) => Math.max(most, Math.abs(value - got[i])), 0);
    t.ok(worst <= 0.5 + 1e-9, `${width}×${height}, sigma ${sigma}: at most rounding, ${worst}`);
  }
  const tiny = Uint8Array.from([10, 20, 30, 40, 50, 60]);
  gaussianBlur(tiny, 2, 1, 1);
  t.ok(tiny[0] > 10 && tiny[0] < 40 && tiny[3] > 10, 'a picture smaller than the kernel is reflected repeatedly');
  t.end();
});
