/** `webdino eval segment`: a segmentation head on frozen tokens (spec §6.6.1). */

import { UsageError } from '../errors.js';
import { evaluateSegment } from '../eval/segment.js';
import { runEvaluation } from './evaluation.js';
import { type PixelArguments, pixelRequest } from './pixel_options.js';

export interface EvalSegmentArguments extends PixelArguments {
  /** A classes.json. */
  readonly classes?: string;
  readonly reduceZeroLabel?: boolean;
  /** "1,1.32,1.73" */
  readonly scales?: string;
}

/**
 * Prints mIoU and accuracies of each model; with `out`, the head of the first one is written there too.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalSegment(options: EvalSegmentArguments): Promise<void> {
  const { classes, reduceZeroLabel } = options;
  const request = { ...pixelRequest('segment', options), classes, reduceZeroLabel, scales: scalesOf(options.scales) };
  await runEvaluation(options, (context) => evaluateSegment(context, request));
}

function scalesOf(text: string | undefined): number[] | undefined {
  if (text === undefined) return undefined;
  const scales = text.split(',').map(Number);
  if (!scales.every((scale) => scale > 0 && scale <= 8)) {
    throw new UsageError(`--scales takes factors such as 1,1.32,1.73, not ${text}`);
  }
  return scales;
}
