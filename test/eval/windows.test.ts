import test from 'tape';
import { averageMap, mirrorMap, resizeMap, type ValueMap } from '../../src/eval/pixel_prediction.js';
import { predictWindows, scaledSize, windowColumns, windowsOf } from '../../src/eval/windows.js';
import { allClose } from '../fixture.js';

test('windows cover a picture; the last ones end with it, a small picture lies in the middle of one', (t) => {
  const all = windowsOf([100, 50], [40, 40], [27, 27]);
  t.deepEqual(
    all.map(({ x, y }) => [x, y]),
    [0, 10].flatMap((y) => [0, 27, 54, 60].map((x) => [x, y])),
  );
  t.equal(windowColumns(100, 40, 27), 4);
  t.deepEqual(windowsOf([30, 20], [40, 40], [27, 27]), [{ x: -5, y: -10, width: 40, height: 40 }], 'padded around');
  t.deepEqual(windowsOf([40, 40], [40, 40], [40, 40]).length, 1);
  t.deepEqual(scaledSize({ width: 480, height: 360 }, 96), [128, 96]);
  t.deepEqual(scaledSize({ width: 480, height: 360 }), [480, 360]);
  t.end();
});

test('predictWindows: what windows agree on comes back, rows in order, however they overlap', async (t) => {
  const [width, height, channels] = [61, 47, 2];
  const value = (x: number, y: number, c: number): number => Math.sin(x * 0.3) + y * 0.1 + c;
  const expected = Float32Array.from({ length: width * height * channels }, (_, i) => {
    const pixel = Math.floor(i / channels);
    return value(pixel % width, Math.floor(pixel / width), i % channels);
  });
  for (const weights of ['even', 'cosine'] as const) {
    for (const [window, stride] of [
      [16, 11],
      [16, 16],
      [64, 64],
    ] as const) {
      const found = new Float32Array(expected.length);
      let nextRow = 0;
      await predictWindows(
        { size: [width, height], window: [window, window], stride: [stride, stride], channels, weights },
        async (boxes, take) => {
          boxes.forEach(({ x, y }, i) => {
            const values = Float32Array.from({ length: window * window * channels }, (_, k) => {
              const pixel = Math.floor(k / channels);
              return value(x + (pixel % window), y + Math.floor(pixel / window), k % channels);
            });
            take(i, values);
          });
        },
        (firstRow, rows) => {
          if (firstRow !== nextRow) t.fail(`row ${firstRow} after ${nextRow}`);
          nextRow = firstRow + rows.length / width / channels;
          found.set(rows, firstRow * width * channels);
        },
      );
      t.equal(nextRow, height, 'all rows');
      allClose(t, found, expected, `${weights}, windows of ${window} every ${stride}`);
    }
  }
});

test('predictWindows: raised cosines leave no seam', async (t) => {
  const [width, window, stride] = [40, 16, 8];
  const jumps = async (weights: 'even' | 'cosine'): Promise<number> => {
    let found = new Float32Array();
    await predictWindows(
      { size: [width, 16], window: [window, window], stride: [stride, stride], channels: 1, weights },
      async (boxes, take) => boxes.forEach((_, i) => void take(i, new Float32Array(window ** 2).fill(i))),
      (_, rows) => {
        found = rows.slice(0, width);
      },
    );
    return Math.max(...Array.from(found.subarray(1), (one, i) => Math.abs(one - found[i])));
  };
  t.ok((await jumps('cosine')) < 0.25 && (await jumps('even')) >= 0.5, 'windows that disagree by 1 meet softly');
});

test('maps: resize, average and mirror', (t) => {
  const map: ValueMap = { width: 3, height: 2, channels: 1, values: Float32Array.of(0, 1, 2, 3, 4, 5) };
  // torch.nn.functional.interpolate(mode='bilinear', align_corners=False)
  allClose(
    t,
    resizeMap(map, 6, 4).values.subarray(0, 12),
    [0, 0.25, 0.75, 1.25, 1.75, 2, 0.75, 1, 1.5, 2, 2.5, 2.75],
    'twice the size',
  );
  t.equal(resizeMap(map, 3, 2).values, map.values, 'the same size is the same map');
  t.deepEqual(
    [...resizeMap({ width: 1, height: 1, channels: 2, values: Float32Array.of(7, 8) }, 2, 1).values],
    [7, 8, 7, 8],
  );
  const wide: ValueMap = { width: 5, height: 2, channels: 1, values: Float32Array.of(1, 2, 3, 4, 5, 1, 2, 3, 4, 5) };
  allClose(t, averageMap(wide, 2, 1).values, [(1 + 2 + 1.5) / 2.5, (1.5 + 4 + 5) / 2.5], 'shares of pixels');
  mirrorMap(map);
  t.deepEqual([...map.values], [2, 1, 0, 5, 4, 3]);
  t.end();
});
