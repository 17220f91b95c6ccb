import test from 'tape';
import type { TargetMap } from '../../src/data/dense_source.js';
import {
  DEPTH_VIEWS,
  type DenseView,
  drawDepthView,
  drawHeightView,
  drawSegmentationView,
  PADDING,
  plainView,
  renderPicture,
  renderTarget,
  SEGMENTATION_VIEWS,
} from '../../src/data/dense_views.js';
import type { RgbImage } from '../../src/data/picture.js';
import { CounterRandom } from '../../src/data/random.js';
import { formulaPicture } from './archives.js';

/** A picture whose red is its column and whose green is its row, and labels and metres that say the same. */
function mapOf(
  width: number,
  height: number,
): {
  image: RgbImage;
  labels: TargetMap<Uint8Array>;
  metres: TargetMap<Float32Array>;
} {
  const data = new Uint8Array(width * height * 3);
  const labels = new Uint8Array(width * height);
  const metres = new Float32Array(width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    data.set([x, y, 100], 3 * i);
    labels[i] = Math.floor(x / 8);
    metres[i] = x + 1000 * y;
  }
  return {
    image: { width, height, data },
    labels: { width, height, values: labels },
    metres: { width, height, values: metres },
  };
}

function pixels(image: RgbImage, view: DenseView): Uint8Array {
  const out = new Uint8Array(view.width * view.height * 3);
  renderPicture(image, view, out);
  return out;
}

test('dense views: the plain view is the picture, mirrored with what pads it', (t) => {
  const { image, labels } = mapOf(30, 20);
  const whole = plainView(image, [30, 20], { x: 0, y: 0, width: 30, height: 20 });
  t.deepEqual(pixels(image, whole), image.data, 'every pixel');
  const padded = plainView(image, [30, 20], { x: 28, y: 0, width: 4, height: 2 }, true);
  t.deepEqual([...pixels(image, padded).subarray(0, 12)], [...PADDING, ...PADDING, 29, 0, 100, 28, 0, 100], 'mirrored');
  const out = new Uint8Array(8);
  renderTarget(labels, image, padded, out);
  t.deepEqual([...out.subarray(0, 4)], [255, 255, 3, 3], 'nothing beside the picture');
  const half = plainView(image, [15, 10], { x: 0, y: 0, width: 15, height: 10 });
  t.deepEqual([...pixels(image, half).subarray(0, 6)], [1, 1, 100, 3, 1, 100], 'means of 2 x 2 at half the size');
  const coarse: TargetMap<Float32Array> = { width: 3, height: 2, values: Float32Array.of(0, 1, 2, 3, 4, 5) };
  const metres = new Float32Array(600);
  renderTarget(coarse, image, whole, metres);
  t.deepEqual([metres[0], metres[9], metres[10], metres[29], metres[10 * 30]], [0, 0, 1, 2, 3], 'a coarser target');
  t.end();
});

test('dense views: picture and target stay together, whatever is drawn', (t) => {
  const { image, labels, metres } = mapOf(120, 90);
  const crop = [32, 48] as const;
  for (let seed = 0; seed < 40; seed++) {
    const segmentation = drawSegmentationView(
      image,
      labels,
      { ...SEGMENTATION_VIEWS, crop, shorterSide: 60, colour: false },
      new CounterRandom(seed),
    );
    const seen = pixels(image, segmentation);
    const out = new Uint8Array(32 * 48);
    renderTarget(labels, image, segmentation, out);
    const wrong = out.findIndex((label, i) => {
      if (label === 255) return seen[3 * i] !== PADDING[0];
      // Bilinear and nearest differ by a pixel, and halved pictures by one more.
      return Math.abs(label - seen[3 * i] / 8) > 1.4;
    });
    if (wrong >= 0) t.fail(`segmentation, seed ${seed}: label ${out[wrong]} at red ${seen[3 * wrong]}`);

    for (const [name, draw] of [
      ['depth', drawDepthView],
      ['height', drawHeightView],
    ] as const) {
      const settings = { ...DEPTH_VIEWS, crop: [32, 32] as const, colour: 0 };
      const view = draw(image, settings, new CounterRandom(seed, 7));
      const picture = pixels(image, view);
      const values = new Float32Array(32 * 32);
      renderTarget(metres, image, view, values);
      const off = values.findIndex((value, i) => {
        if (Number.isNaN(value)) return false;
        const [x, y] = [value % 1000, Math.floor(value / 1000)];
        return Math.abs(x - picture[3 * i]) > 1 || Math.abs(y - picture[3 * i + 1]) > 1;
      });
      if (off >= 0) t.fail(`${name}, seed ${seed}: ${values[off]} at [${picture.subarray(3 * off, 3 * off + 2)}]`);
    }
  }
  t.pass('40 views of each kind');
  t.end();
});

test('dense views: what is drawn', (t) => {
  const { image, labels } = mapOf(120, 90);
  const settings = { ...SEGMENTATION_VIEWS, crop: [32, 32] as const, shorterSide: 60 };
  const again = (seed: number) => drawSegmentationView(image, labels, settings, new CounterRandom(seed));
  t.deepEqual(again(4), again(4), 'the same numbers give the same view');
  t.notDeepEqual(again(4), again(5), 'others another one');
  const scales = Array.from({ length: 200 }, (_, seed) => 90 / 60 / Math.abs(again(seed).map[0]));
  t.ok(Math.min(...scales) < 0.6 && Math.min(...scales) > 0.49, `smallest scale ${Math.min(...scales)}`);
  t.ok(Math.max(...scales) > 1.9 && Math.max(...scales) < 2.01, `largest scale ${Math.max(...scales)}`);
  const mirrored = Array.from({ length: 200 }, (_, seed) => again(seed).map[0] < 0).filter(Boolean).length;
  t.ok(mirrored > 70 && mirrored < 130, `${mirrored} of 200 mirrored`);

  // One class all over but for a stripe: only crops that hold the stripe pass the largest share.
  const stripe: TargetMap<Uint8Array> = {
    width: 120,
    height: 90,
    values: Uint8Array.from({ length: 120 * 90 }, (_, i) => (i % 120 < 30 ? 1 : 0)),
  };
  const mixed = (largestShare: number): number => {
    let found = 0;
    for (let seed = 0; seed < 60; seed++) {
      const view = drawSegmentationView(
        image,
        stripe,
        { ...settings, largestShare, ratio: [2, 2] },
        new CounterRandom(seed),
      );
      const out = new Uint8Array(32 * 32);
      renderTarget(stripe, image, view, out);
      if (new Set(out).size > 1) found++;
    }
    return found;
  };
  t.ok(mixed(0.75) > mixed(1) + 15, `crops of more than one class: ${mixed(0.75)} of 60, ${mixed(1)} without the rule`);

  const turned = Array.from({ length: 100 }, (_, seed) => {
    const [a, , , d] = drawDepthView(image, { ...DEPTH_VIEWS, crop: [32, 32] }, new CounterRandom(seed)).map;
    return Math.abs((Math.atan2(d, Math.abs(a)) * 180) / Math.PI);
  });
  t.ok(turned.filter((angle) => angle > 0).length > 30 && Math.max(...turned) < 2.5001, 'turned by up to 2.5 degrees');
  const within = { x: 10, y: 20, width: 60, height: 50 };
  for (let seed = 0; seed < 30; seed++) {
    const view = drawDepthView(
      image,
      { ...DEPTH_VIEWS, crop: [32, 32], within, colour: 0, turn: 0 },
      new CounterRandom(seed),
    );
    const seen = pixels(image, view);
    for (let i = 0; i < seen.length; i += 3) {
      if (seen[i] < 10 || seen[i] > 69 || seen[i + 1] < 20 || seen[i + 1] > 69)
        t.fail(`outside: ${seen.subarray(i, i + 2)}`);
    }
  }
  const strong = drawDepthView(
    formulaPicture(60, 60),
    { ...DEPTH_VIEWS, crop: [32, 32], colour: 1 },
    new CounterRandom(1),
  );
  t.equal(strong.colour?.kind, 'gamma');
  t.notDeepEqual(pixels(image, strong), pixels(image, { ...strong, colour: undefined }), 'colours change');
  t.end();
});
