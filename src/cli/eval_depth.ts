/** `webdino eval depth`: a depth head on frozen tokens (spec §6.5). */

import { UsageError } from '../errors.js';
import { evaluateDepth } from '../eval/depth.js';
import { EVALUATION_CROPS, NYU_RANGE } from '../eval/depth_metrics.js';
import { runEvaluation } from './evaluation.js';
import { oneOf, type PixelArguments, pixelRequest, positiveNumber } from './pixel_options.js';

export interface EvalDepthArguments extends PixelArguments {
  /** `eigen` (default), `garg` or `none`. */
  readonly evalCrop?: string;
  /** Metres. */
  readonly minDepth?: string | number;
  readonly maxDepth?: string | number;
  readonly depthDivisor?: string | number;
}

/**
 * Prints RMSE and the other figures of each model; with `out`, the head of the first one is written there too.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalDepth(options: EvalDepthArguments): Promise<void> {
  const range = {
    min: positiveNumber('--min-depth', options.minDepth) ?? NYU_RANGE.min,
    max: positiveNumber('--max-depth', options.maxDepth) ?? NYU_RANGE.max,
  };
  if (range.min >= range.max) throw new UsageError(`--min-depth ${range.min} is not below --max-depth ${range.max}`);
  const request = {
    ...pixelRequest('depth', options),
    evaluationCrop: oneOf('--eval-crop', options.evalCrop, EVALUATION_CROPS),
    range,
    depthDivisor: positiveNumber('--depth-divisor', options.depthDivisor),
  };
  await runEvaluation(options, (context) => evaluateDepth(context, request));
}
