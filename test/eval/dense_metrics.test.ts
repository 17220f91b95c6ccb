import { readFileSync } from 'node:fs';
import test from 'tape';
import { bootstrapDraws } from '../../src/eval/bootstrap.js';
import { DEPTH_METRICS, depthErrors, type EvaluationCrop, evaluationCrop } from '../../src/eval/depth_metrics.js';
import { HEIGHT_METRICS, heightErrors, sobelMagnitude } from '../../src/eval/height_metrics.js';
import { judge, sumRows } from '../../src/eval/picture_sums.js';
import { classIoU, labelCounts, segmentationMetrics } from '../../src/eval/segmentation_metrics.js';
import { allClose } from '../fixture.js';

/** Made by fixtures/dense_metrics.py with scikit-learn, numpy and scipy. */
const fixture = JSON.parse(readFileSync(new URL('../fixtures/dense_metrics.json', import.meta.url), 'utf8')) as {
  size: [number, number, number, number];
  segmentation: { confusion: number[][]; mIoU: number; accuracy: number; classAccuracy: number };
  depth: Record<EvaluationCrop, number[]>;
  heights: number[];
};
const [PICTURES, HEIGHT, WIDTH, CLASSES] = fixture.size;
const PIXELS = HEIGHT * WIDTH;
const EXACT = { absolute: 1e-6, relative: 1e-6 };

const pictures = Array.from({ length: PICTURES }, (_, picture) => picture);
const values = (of: (i: number) => number): number[] => Array.from({ length: PIXELS }, (_, i) => of(i));

/** The formulas of the fixture. */
function whole(picture: number, a: number, b: number, modulus: number): number[] {
  return values((i) => (i * i * a + i * b + Math.floor(i / 9) * 5 + picture * 17) % modulus);
}

function smooth(picture: number, a: number, b: number): number[] {
  return values((i) => {
    const [row, column] = [Math.floor(i / WIDTH), i % WIDTH];
    return ((Math.floor(row / 6) * a + Math.floor(column / 5) * b + picture * 3) % 23) + ((i * 7) % 5) / 8;
  });
}

function labelMaps(picture: number): { truth: Uint8Array; prediction: Uint8Array } {
  const truth = whole(picture, 3, 5, CLASSES + 1).map((label) =>
    label === CLASSES ? 255 : label === 5 || label === 4 ? 0 : label,
  );
  const [keep, other] = [whole(picture, 1, 2, 3), whole(picture, 2, 7, 5)];
  const prediction = truth
    .map((label, i) => (keep[i] > 0 ? label : other[i]))
    .map((label) => (label === 255 ? 1 : label));
  return { truth: Uint8Array.from(truth), prediction: Uint8Array.from(prediction) };
}

function depthMaps(picture: number): { truth: Float32Array; prediction: Float32Array } {
  return {
    truth: Float32Array.from(whole(picture, 7, 13, 97), (value) => (value === 0 ? Number.NaN : value / 8)),
    prediction: Float32Array.from(whole(picture, 11, 5, 89), (value) => Math.max(value / 8 - 0.5, -1)),
  };
}

function heightMaps(picture: number): { truth: Float32Array; prediction: Float32Array } {
  const holes = whole(picture, 7, 3, 53);
  return {
    truth: Float32Array.from(smooth(picture, 4, 7), (value, i) => (holes[i] === 0 ? Number.NaN : value)),
    prediction: Float32Array.from(smooth(picture, 4, 6), (value) => value * 0.75 + 1),
  };
}

test('segmentation: confusion, mIoU and accuracies as scikit-learn has them', (t) => {
  const confusion = new Float64Array(CLASSES * CLASSES);
  const rows = pictures.map((picture) => {
    const { truth, prediction } = labelMaps(picture);
    return labelCounts(truth, prediction, CLASSES, confusion);
  });
  const { segmentation } = fixture;
  t.deepEqual([...confusion], segmentation.confusion.flat(), 'confusion');
  const total = sumRows(rows);
  allClose(
    t,
    segmentationMetrics(CLASSES).values(total),
    [segmentation.mIoU, segmentation.accuracy, segmentation.classAccuracy],
    'mIoU, pixel accuracy, class accuracy',
    EXACT,
  );
  const iou = classIoU(total, CLASSES);
  t.ok(Number.isNaN(iou[5]), 'a class in neither map has none');
  t.equal(iou[4], 0, 'one in the prediction alone has 0');
  t.end();
});

test('depth: all ten figures, with the crops of Eigen and Garg', (t) => {
  for (const [crop, max] of [
    ['none', 10],
    ['eigen', 10],
    ['garg', 80],
  ] as const) {
    const rows = pictures.map((picture) => {
      const { truth, prediction } = depthMaps(picture);
      return depthErrors(truth, prediction, WIDTH, evaluationCrop(crop, WIDTH, HEIGHT), { min: 0.001, max })!;
    });
    allClose(t, DEPTH_METRICS.values(sumRows(rows)), fixture.depth[crop], crop, EXACT);
  }
  t.deepEqual(evaluationCrop('eigen', 640, 480), { x: 41, y: 45, width: 560, height: 426 }, 'NYU itself');
  t.deepEqual(evaluationCrop('garg', 1242, 375), { x: 44, y: 153, width: 1153, height: 218 }, 'KITTI itself');
  const nothing = new Float32Array(4).fill(Number.NaN);
  const all = { x: 0, y: 0, width: 2, height: 2 };
  t.equal(depthErrors(nothing, new Float32Array(4), 2, all, { min: 0.001, max: 10 }), undefined, 'nothing measured');
  const wild = Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, -3, 2);
  const clamped = depthErrors(Float32Array.of(1, 1, 1, 2), wild, 2, all, { min: 0.5, max: 4 })!;
  allClose(t, [clamped[11]], [0.25 + 9 + 0.25 + 0], 'NaN and infinity are clamped like other predictions', EXACT);
  t.end();
});

test('heights: MAE, RMSE, R², bias and edge error', (t) => {
  const rows = pictures.map((picture) => {
    const { truth, prediction } = heightMaps(picture);
    return heightErrors(truth, prediction, WIDTH, HEIGHT)!;
  });
  allClose(t, HEIGHT_METRICS.values(sumRows(rows)), fixture.heights, 'as scikit-learn and scipy have them', EXACT);
  t.equal(heightErrors(new Float32Array(4).fill(Number.NaN), new Float32Array(4), 2, 2), undefined, 'no data');
  const ramp = Float32Array.from({ length: 25 }, (_, i) => 2 * (i % 5));
  t.equal(sobelMagnitude(ramp, 5, 5)[12], 2, 'a ramp of 2 m a pixel');
  t.ok(Number.isNaN(sobelMagnitude(ramp, 5, 5)[4]), 'nothing at the frame');
  ramp[12] = Number.NaN;
  t.ok(Number.isNaN(sobelMagnitude(ramp, 5, 5)[12]), 'nor on a hole');
  t.end();
});

test('a bootstrap draw is the metric of the pictures it holds', (t) => {
  const rowsOf = (shift: number): Float64Array[] =>
    pictures.map((picture) => {
      const { truth, prediction } = labelMaps(picture);
      return labelCounts(
        truth,
        prediction.map((label) => (label + shift) % CLASSES),
        CLASSES,
      );
    });
  const metrics = segmentationMetrics(CLASSES);
  const models = [
    { name: 'right', rows: rowsOf(0) },
    { name: 'shifted', rows: rowsOf(1) },
  ];
  const judged = judge(models, metrics, { draws: 50, seed: 3 });
  const drawn = bootstrapDraws(PICTURES, 50, 3).map((sample) => {
    const truth = [...sample].flatMap((picture) => [...labelMaps(picture).truth]);
    const prediction = [...sample].flatMap((picture) => [...labelMaps(picture).prediction]);
    const counts = labelCounts(Uint8Array.from(truth), Uint8Array.from(prediction), CLASSES);
    return metrics.values(counts)[0];
  });
  const [low, high] = judged.metrics[0][0].interval!;
  t.ok(low >= Math.min(...drawn) && high <= Math.max(...drawn) && low < high, 'interval of the same draws');
  const value = judged.metrics[0][0].value;
  t.ok(low <= value && value <= high, 'around the value');
  t.equal(judged.margins.length, 1);
  allClose(t, [judged.margins[0].difference], [value - judged.metrics[1][0].value], 'margin', EXACT);
  t.end();
});
