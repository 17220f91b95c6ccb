import test from 'tape';
import {
  classColour,
  galleryMap,
  galleryPhoto,
  labelErrorPicture,
  labelPicture,
  metreErrorPicture,
  metrePicture,
  overlay,
} from '../../src/eval/map_pictures.js';
import { formulaPicture } from '../data/archives.js';

test('map pictures: classes that can be told apart, ramps, overlays', (t) => {
  const colours = Array.from({ length: 40 }, (_, label) => classColour(label));
  let closest = Number.POSITIVE_INFINITY;
  colours.forEach((a, i) => {
    for (const b of colours.slice(0, i)) closest = Math.min(closest, Math.hypot(...a.map((value, k) => value - b[k])));
  });
  t.ok(closest > 12, `the nearest two of 40 class colours are ${closest.toFixed(0)} apart`);
  t.ok(
    colours.flat().every((value) => Number.isInteger(value) && value >= 0 && value <= 255),
    'bytes',
  );

  const size = { width: 2, height: 1 };
  const labels = labelPicture(Uint8Array.of(1, 255), size);
  t.deepEqual([...labels.data], [...classColour(1), 60, 60, 60], 'ignored pixels are grey');
  const wrong = labelErrorPicture(Uint8Array.of(1, 1), Uint8Array.of(1, 0), size);
  t.ok(wrong.data[0] === 0 && wrong.data[3] === 255, 'right is black, wrong is bright');
  const metres = metrePicture(Float32Array.of(0, Number.NaN), size, 0, 5);
  t.deepEqual([...metres.data], [68, 1, 84, 60, 60, 60], 'the low end, and no data');
  t.deepEqual([...metrePicture(Float32Array.of(9, 5), size, 0, 5).data.subarray(0, 3)], [253, 231, 37], 'clamped');
  t.equal(metreErrorPicture(Float32Array.of(3, 3), Float32Array.of(3, 4), size, 1).data[0], 0, 'no error is black');
  t.ok(metrePicture(Float32Array.of(2, 2), size, 2, 2).data.every(Number.isFinite), 'a flat map');

  const photo = formulaPicture(6, 4);
  const over = overlay(photo, labelPicture(Uint8Array.of(0, 1), size));
  t.deepEqual([over.width, over.height], [6, 4], 'of the size of the photograph');
  t.equal(over.data[0], (photo.data[0] + classColour(0)[0]) >> 1, 'half of each');
  const shown = galleryPhoto(photo);
  const map = galleryMap(labels, shown);
  t.deepEqual([shown.width, shown.height, map.width, map.height], [240, 160, 240, 160], 'side by side');
  t.end();
});
