/** `webdino eval canopy`: a canopy height head on frozen tokens. */

import { evaluateCanopy } from '../eval/canopy.js';
import { runEvaluation } from './evaluation.js';
import { type PixelArguments, pixelRequest, positiveNumber } from './pixel_options.js';

export interface EvalCanopyArguments extends PixelArguments {
  /** Metres. */
  readonly maxHeight?: string | number;
}

/**
 * Prints MAE and the other figures of each model; with `out`, the head of the first one is written there too.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalCanopy(options: EvalCanopyArguments): Promise<void> {
  const request = {
    ...pixelRequest('canopy', options),
    maxHeight: positiveNumber('--max-height', options.maxHeight),
  };
  await runEvaluation(options, (context) => evaluateCanopy(context, request));
}
