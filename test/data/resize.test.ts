import { crc32 } from 'node:zlib';
import test from 'tape';
import { resizeRgb } from '../../src/data/resize.js';
import { formulaPicture } from './archives.js';

/** CRC-32 of Pillow 12.3's `picture.crop(box).resize((w, h), BICUBIC)`: width, height, [x, y, w, h], out w, out h. */
const PILLOW: [number, number, [number, number, number, number], number, number, number][] = [
  [128, 96, [0, 0, 128, 96], 64, 64, 0xfdb61a03],
  [128, 96, [17, 5, 50, 61], 32, 32, 0x02e2d4f1],
  [40, 30, [0, 0, 40, 30], 224, 98, 0x2efa3822],
  [64, 64, [0, 0, 64, 64], 64, 20, 0xf834632e],
  [3, 2, [0, 0, 3, 2], 32, 32, 0x04ce2ea7],
  [97, 1, [0, 0, 97, 1], 8, 8, 0xb57947c0],
  [90, 70, [30, 20, 1, 1], 5, 5, 0x944a3e35],
  [150, 150, [9, 9, 141, 133], 7, 9, 0x7a4b33e6],
];

test('resizing equals Pillow bit for bit', (t) => {
  for (const [width, height, [x, y, w, h], outWidth, outHeight, want] of PILLOW) {
    const out = resizeRgb(formulaPicture(width, height), outWidth, outHeight, { x, y, width: w, height: h });
    t.equal(crc32(out.data), want, `${w}×${h} of ${width}×${height} to ${outWidth}×${outHeight}`);
  }
  t.end();
});

/** The definition in float64: normalised Keys kernel, stretched when shrinking, along one axis of one channel. */
function exactAxis(values: readonly number[], size: number): number[] {
  const scale = values.length / size;
  const stretch = Math.max(scale, 1);
  const keys = (d: number) =>
    d < 1 ? 1.5 * d ** 3 - 2.5 * d ** 2 + 1 : d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const weights = values.map((_, j) => keys(Math.abs(j + 0.5 - centre) / stretch));
    const sum = weights.reduce((a, b) => a + b);
    return values.reduce((total, value, j) => total + value * weights[j], 0) / sum;
  });
}

test('resizing follows the cubic convolution kernel', (t) => {
  const row = [10, 200, 30, 90, 250, 0, 77, 140, 33, 61];
  const data = Uint8Array.from(row.flatMap((value) => [value, 255 - value, 128]));
  for (const size of [3, 7, 10, 23]) {
    const got = resizeRgb({ width: row.length, height: 1, data }, size, 1).data;
    const want = exactAxis(row, size).map((value) => Math.min(Math.max(value, 0), 255));
    const worst = Math.max(...want.map((value, i) => Math.abs(got[i * 3] - value)));
    // Pillow's taps reach from rounded borders, so weights near zero may be left out.
    t.ok(worst < 1.5, `10 → ${size}: worst ${worst}`);
    t.ok(
      want.every((_, i) => got[i * 3 + 2] === 128),
      'a constant stays',
    );
  }
  t.end();
});

test('a resize depends on the box alone', (t) => {
  const image = formulaPicture(80, 60);
  const box = { x: 21, y: 13, width: 30, height: 33 };
  const cut = new Uint8Array(box.width * box.height * 3);
  for (let y = 0; y < box.height; y++) {
    const start = ((box.y + y) * image.width + box.x) * 3;
    cut.set(image.data.subarray(start, start + box.width * 3), y * box.width * 3);
  }
  t.deepEqual(
    resizeRgb(image, 16, 17, box).data,
    resizeRgb({ width: box.width, height: box.height, data: cut }, 16, 17).data,
  );
  t.deepEqual(resizeRgb(image, 80, 60).data, image.data, 'the same size is a copy');
  t.end();
});
