/**
 * Canopy height on frozen tokens (spec §6.5.3's DPT head, or bins): heights plus one metre under the losses of depth, so that
 * bare ground counts like any height; windows with raised-cosine weights at test time.
 *
 * Heights are often coarser than their picture. A head learns from them brought to the picture's pixels by the nearest value, and
 * is judged on their own grid: its map is averaged over each of their pixels (or resized bilinearly where they are finer).
 */

import { DEPTH_VIEWS } from '../data/dense_views.js';
import { metresOf } from './dense_set.js';
import { HEIGHT_METRICS, heightErrors } from './height_metrics.js';
import { metreFigures } from './metre_figures.js';
import {
  evaluatePixels,
  type PixelRequest,
  type PixelSizes,
  type PixelTaskDefinition,
  wholePatches,
} from './pixel_evaluation.js';
import { averageMap, type PredictionMode, predictMetres, resizeMap, type ValueMap } from './pixel_prediction.js';
import type { EvaluationReport } from './result.js';
import type { EvaluationContext } from './task.js';

export interface CanopyRequest extends PixelRequest {
  readonly protocol?: 'linear1' | 'linear4' | 'dpt';
  /** Metres: the highest tree that a head can tell. */
  readonly maxHeight?: number;
}

export const MAX_HEIGHT = 60;

const USUAL_SIDE = 224;
const SOFTWARE_SIDE = 96;
const WARM_UP = 0.1;

/** How a picture is predicted: windows that overlap by a quarter. */
export function canopyMode({ crop, shorterSide }: PixelSizes, patchMultiple: number): PredictionMode {
  const stride = (side: number): number => Math.max(Math.round(side * 0.75), 1);
  return {
    shorterSide,
    mode: 'slide',
    window: [crop[1], crop[0]],
    stride: [stride(crop[1]), stride(crop[0])],
    weights: 'cosine',
    flip: true,
    scales: [1],
    patchMultiple,
  };
}

/** A prediction on the grid of a target. */
export function onTargetGrid(map: ValueMap, width: number, height: number): ValueMap {
  return width < map.width || height < map.height ? averageMap(map, width, height) : resizeMap(map, width, height);
}

/** MAE and the other figures of every model of the context. */
export async function evaluateCanopy(context: EvaluationContext, request: CanopyRequest): Promise<EvaluationReport> {
  const { software } = context.gpu.capabilities;
  const { protocol = 'dpt', maxHeight = MAX_HEIGHT } = request;
  const dpt = protocol === 'dpt';
  const definition: PixelTaskDefinition = {
    task: 'canopy',
    protocol,
    kind: 'height',
    source: {},
    defaults: {
      iterations: software ? 300 : 4000,
      headBatch: software ? 4 : dpt ? 8 : 16,
      headLearningRate: dpt ? 3e-4 : 1e-3,
      channels: software ? 32 : 256,
    },
    range: [0, maxHeight],
    sizes: ({ medianSize }, multiple) => {
      const side = wholePatches(Math.min(medianSize.shorter, software ? SOFTWARE_SIDE : USUAL_SIDE), multiple);
      return { crop: [side, side] };
    },
    metrics: () => HEIGHT_METRICS,
    views: ({ crop, shorterSide }) => ({ kind: 'height', ...DEPTH_VIEWS, crop, shorterSide }),
    training: (iterations) => ({
      schedule: 'cosine',
      warmUp: Math.ceil(iterations * WARM_UP),
      weightDecay: 0.01,
      maxNorm: 35,
    }),
    mode: canopyMode,
    predict: async (predictor, head, pair, mode) => {
      const map = await predictMetres(predictor, head, pair.picture, mode);
      return onTargetGrid(map, pair.target.width, pair.target.height);
    },
    row: ({ target }, { values }) =>
      heightErrors(target.values as Float32Array, values as Float32Array, target.width, target.height),
    figures: (first) => metreFigures(first, metresOf, 'height'),
    notes: () => [
      'every test picture weighs the same, whatever the number of its pixels',
      'edge error: mean difference of Sobel slopes, in metres a pixel, where the truth has 1 m a pixel or more',
    ],
    settings: { maxHeight },
  };
  return evaluatePixels(context, request, definition);
}
