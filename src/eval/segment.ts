/**
 * Semantic segmentation on frozen tokens (spec §6.6.1): batch norm and a 1 x 1 convolution over the last level (`linear`) or the
 * last four (`ms`), cross-entropy, windows at test time; `ms` also averages scales and mirror images.
 *
 * Official sizes are a shorter side and crop of 512 px, stride 341 (`linear`), and 640, stride 320, scales 1 to 3 (`ms`); smaller
 * pictures keep their size here. Official runs have 40,000 steps of 16 crops at 1e-3.
 */

import { SEGMENTATION_VIEWS } from '../data/dense_views.js';
import { DataError } from '../errors.js';
import { labelsOf } from './dense_set.js';
import { galleryMap, galleryPhoto, labelErrorPicture, labelPicture } from './map_pictures.js';
import { sumRows } from './picture_sums.js';
import {
  evaluatePixels,
  type FirstModel,
  type PixelRequest,
  type PixelSizes,
  type PixelTaskDefinition,
  wholePatches,
} from './pixel_evaluation.js';
import { type PredictionMode, predictLabels } from './pixel_prediction.js';
import type { EvaluationReport, Figure } from './result.js';
import { classIoU, labelCounts, segmentationMetrics } from './segmentation_metrics.js';
import type { EvaluationContext } from './task.js';

export interface SegmentRequest extends PixelRequest {
  readonly protocol?: 'linear' | 'ms';
  /** A classes.json. */
  readonly classes?: string;
  readonly reduceZeroLabel?: boolean;
  /** `ms`: factors of the size at test time. */
  readonly scales?: readonly number[];
}

/** The first three of the official five: the rest costs most and gives least. */
export const TEST_SCALES: readonly number[] = [1, 1.32, 1.73];

const OFFICIAL_SIDE = { linear: 512, ms: 640 } as const;

/** An adapter on the CPU: minutes instead of hours. */
const SOFTWARE_SIDE = 128;

/** Share of the steps that warm up: 1,500 of 40,000. */
const WARM_UP = 1500 / 40000;

/** How windows go over a picture: strides of 341 in 512, and of half a window. */
export function segmentMode(
  protocol: 'linear' | 'ms',
  { crop, shorterSide }: PixelSizes,
  patchMultiple: number,
  scales: readonly number[] = protocol === 'ms' ? TEST_SCALES : [1],
): PredictionMode {
  const stride = (side: number): number => Math.max(Math.round(protocol === 'ms' ? side / 2 : (side * 341) / 512), 1);
  return {
    shorterSide,
    mode: 'slide',
    window: [crop[1], crop[0]],
    stride: [stride(crop[1]), stride(crop[0])],
    weights: 'even',
    flip: protocol === 'ms',
    scales,
    patchMultiple,
  };
}

/** mIoU and accuracies of every model of the context. */
export async function evaluateSegment(context: EvaluationContext, request: SegmentRequest): Promise<EvaluationReport> {
  const { software } = context.gpu.capabilities;
  const { protocol = 'linear' } = request;
  const confusions = new Map<string, Float64Array>();
  let model = '';
  const definition: PixelTaskDefinition = {
    task: 'segment',
    protocol,
    kind: 'labels',
    source: { classes: request.classes, reduceZeroLabel: request.reduceZeroLabel },
    defaults: {
      iterations: software ? 300 : 4000,
      headBatch: software ? 8 : 16,
      headLearningRate: 1e-3,
      channels: 1,
    },
    range: [0, 0],
    sizes: ({ medianSize }, multiple) => {
      const most = software ? SOFTWARE_SIDE : OFFICIAL_SIDE[protocol];
      const side = wholePatches(Math.min(medianSize.shorter, most), multiple);
      return { crop: [side, side], shorterSide: side };
    },
    metrics: (classNames) => segmentationMetrics(classNames.length),
    views: ({ crop, shorterSide }) => ({
      kind: 'labels',
      ...SEGMENTATION_VIEWS,
      ratio: protocol === 'ms' ? [1, 3] : SEGMENTATION_VIEWS.ratio,
      crop,
      shorterSide: shorterSide ?? Math.min(...crop),
    }),
    training: (iterations) => ({
      schedule: 'poly',
      warmUp: Math.ceil(iterations * WARM_UP),
      weightDecay: 1e-4,
      maxNorm: 0,
    }),
    mode: (sizes, multiple) => segmentMode(protocol, sizes, multiple, request.scales),
    predict: async (predictor, head, pair, mode) => {
      model = head.config.model.name;
      const { width, height } = pair.picture;
      if (pair.target.width !== width || pair.target.height !== height) {
        throw new DataError(
          `${pair.name} is ${width} x ${height} and its mask ${pair.target.width} x ${pair.target.height}: ` +
            'masks have the size of their pictures',
        );
      }
      return { width, height, values: await predictLabels(predictor, pair.picture, mode) };
    },
    row: (pair, { values }, classNames) => {
      const classes = classNames.length;
      if (!confusions.has(model)) confusions.set(model, new Float64Array(classes * classes));
      return labelCounts(labelsOf(pair).values, values as Uint8Array, classes, confusions.get(model));
    },
    figures: (first) => segmentFigures(first, confusions.get(first.name)!),
    notes: ({ rows, classNames }) => {
      const absent = classNames.filter((_, label) => Number.isNaN(classIoU(sumRows(rows), classNames.length)[label]));
      return absent.length > 0 ? [`not in the test masks nor predicted, so not in the mIoU: ${absent.join(', ')}`] : [];
    },
    settings: { classes: request.classes, reduceZeroLabel: request.reduceZeroLabel ?? false },
  };
  return evaluatePixels(context, request, definition);
}

function segmentFigures({ name, rows, samples, classNames }: FirstModel, confusion: Float64Array): Figure[] {
  const iou = classIoU(sumRows(rows), classNames.length);
  return [
    {
      kind: 'gallery',
      title: 'Test pictures',
      rows: samples.map(({ pair, predictions }) => {
        const photo = galleryPhoto(pair.picture);
        const { values: truth, ...size } = labelsOf(pair);
        const show = (caption: string, picture: Parameters<typeof galleryMap>[0]) => ({
          caption,
          picture: galleryMap(picture, photo),
        });
        const first = predictions[0].prediction.values as Uint8Array;
        return {
          caption: pair.name,
          pictures: [
            { caption: 'picture', picture: photo },
            show('truth', labelPicture(truth, size)),
            ...predictions.map(({ model, prediction }) =>
              show(model, labelPicture(prediction.values as Uint8Array, prediction)),
            ),
            show(`wrong: ${name}`, labelErrorPicture(truth, first, size)),
          ],
        };
      }),
    },
    {
      kind: 'bars',
      title: `IoU of each class: ${name}`,
      unit: '%',
      bars: classNames.flatMap((label, i) => (Number.isNaN(iou[i]) ? [] : [{ label, value: iou[i] }])),
    },
    { kind: 'confusion', title: `Pixels by class: ${name}`, classNames, counts: confusion },
  ];
}
