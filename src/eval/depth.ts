/**
 * Monocular depth on frozen tokens (spec §6.5): bins over one level (`linear1`) or four (`linear4`), or DPT (`dpt`); the
 * scale-invariant loss and half of its gradient's; whole pictures at test time, averaged with their mirror images.
 *
 * Official: NYU at 480 x 640 in crops of 416 x 544, 38,400 steps of 16, at 1e-4 after a warm-up of a third. Short runs here start
 * from a larger rate and warm up for a tenth.
 */

import { DEPTH_VIEWS } from '../data/dense_views.js';
import { metresOf } from './dense_set.js';
import {
  DEPTH_METRICS,
  type DepthRange,
  depthErrors,
  type EvaluationCrop,
  evaluationCrop,
  NYU_RANGE,
} from './depth_metrics.js';
import { metreFigures } from './metre_figures.js';
import {
  evaluatePixels,
  type PixelRequest,
  type PixelSizes,
  type PixelTaskDefinition,
  wholePatches,
} from './pixel_evaluation.js';
import { type PredictionMode, predictMetres, resizeMap } from './pixel_prediction.js';
import type { EvaluationReport } from './result.js';
import type { EvaluationContext } from './task.js';

export interface DepthRequest extends PixelRequest {
  readonly protocol?: 'linear1' | 'linear4' | 'dpt';
  /** Which part of a picture counts; `eigen` by default. */
  readonly evaluationCrop?: EvaluationCrop;
  readonly range?: DepthRange;
  /** Values of a metre in depth PNGs. */
  readonly depthDivisor?: number;
}

/** Official crops are these shares of NYU's 480 x 640. */
const CROP_SHARE = { height: 416 / 480, width: 544 / 640 };
const OFFICIAL_SIDE = 480;
const SOFTWARE_SIDE = 128;
const WARM_UP = 0.1;

/** How a picture is predicted: as a whole. */
export function depthMode({ crop, shorterSide }: PixelSizes, patchMultiple: number): PredictionMode {
  return {
    shorterSide,
    mode: 'whole',
    window: [crop[1], crop[0]],
    stride: [crop[1], crop[0]],
    weights: 'even',
    flip: true,
    scales: [1],
    patchMultiple,
  };
}

/** RMSE and the other figures of every model of the context. */
export async function evaluateDepth(context: EvaluationContext, request: DepthRequest): Promise<EvaluationReport> {
  const { software } = context.gpu.capabilities;
  const { protocol = 'linear4', range = NYU_RANGE, evaluationCrop: within = 'eigen', depthDivisor = 1000 } = request;
  const dpt = protocol === 'dpt';
  const definition: PixelTaskDefinition = {
    task: 'depth',
    protocol,
    kind: 'depth',
    source: { depthDivisor },
    defaults: {
      iterations: software ? 300 : 4000,
      headBatch: dpt ? 4 : software ? 8 : 16,
      headLearningRate: dpt ? 3e-4 : 1e-3,
      channels: software ? 32 : 256,
    },
    range: [range.min, range.max],
    sizes: ({ medianSize: { shorter, longer } }, multiple) => {
      const side = Math.min(shorter, software ? SOFTWARE_SIDE : OFFICIAL_SIDE);
      const height = wholePatches(Math.ceil(side * CROP_SHARE.height), multiple);
      const width = wholePatches(Math.ceil(((side * longer) / shorter) * CROP_SHARE.width), multiple);
      return { crop: [height, width], shorterSide: side === shorter ? undefined : side };
    },
    metrics: () => DEPTH_METRICS,
    views: ({ crop, shorterSide }) => ({
      kind: 'depth',
      ...DEPTH_VIEWS,
      crop,
      shorterSide,
      // NYU has a white frame, KITTI sky and bonnet: what does not count is not learned either.
      withinOf: (width, height) => evaluationCrop(within, width, height),
    }),
    training: (iterations) => ({
      schedule: 'cosine',
      warmUp: Math.ceil(iterations * WARM_UP),
      weightDecay: 0.01,
      maxNorm: 35,
    }),
    mode: depthMode,
    predict: async (predictor, head, pair, mode) => {
      const { width, height } = pair.target;
      return resizeMap(await predictMetres(predictor, head, pair.picture, mode), width, height);
    },
    row: ({ target }, { values }) => {
      const crop = evaluationCrop(within, target.width, target.height);
      return depthErrors(target.values as Float32Array, values as Float32Array, target.width, crop, range);
    },
    figures: (first) => metreFigures(first, metresOf, 'depth'),
    notes: () => [
      'figures are means over pictures of the figures of each picture, as in the official code; "RMSE, pixels" is over all pixels',
    ],
    settings: { evaluationCrop: within, minDepth: range.min, maxDepth: range.max, depthDivisor },
  };
  return evaluatePixels(context, request, definition);
}
