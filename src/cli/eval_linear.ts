/** `webdino eval linear`: a grid of linear classifiers on frozen features (spec §6.3). */

import { UsageError } from '../errors.js';
import { commonLabels, openLabelled, openLabelledPair } from '../eval/labelled_pair.js';
import { evaluateLinear } from '../eval/linear.js';
import { BASE_RATES } from '../eval/linear_heads.js';
import { readMultiLabels } from '../eval/multi_labels.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { positiveInteger, required } from './model.js';

export interface EvalLinearArguments extends EvaluationArguments {
  /** Labelled pictures that choose the head. */
  readonly val?: string;
  /** Share of the training pictures that choose the head. */
  readonly holdOut?: string | number;
  /** Random crops through the network at every step. Default: on hardware adapters. */
  readonly augment?: boolean;
  readonly iterations?: string | number;
  /** Pictures a step of the heads. */
  readonly trainBatch?: string | number;
  /** `official` or `paper`. */
  readonly grid?: string;
  /** "0.001,0.01": in place of the grid's. */
  readonly lrs?: string | readonly number[];
  /** Only classes that the test set has are predicted. */
  readonly onlyTestClasses?: boolean;
  /** JSON of all valid classes of each test picture. */
  readonly real?: string;
}

/**
 * Prints accuracies of the best head of each model.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalLinear(options: EvalLinearArguments): Promise<void> {
  const iterations = positiveInteger('--iterations', options.iterations);
  const batch = positiveInteger('--train-batch', options.trainBatch);
  const baseRates = ratesOf(options);
  const holdOut = options.holdOut === undefined ? undefined : Number(options.holdOut);
  const pair = await openLabelledPair(required('--train', options.train), required('--test', options.test));
  try {
    const multiLabels = options.real === undefined ? undefined : await readMultiLabels(options.real, pair);
    const source = options.val === undefined ? undefined : await openLabelled(options.val, '--val');
    try {
      const selection = source && { source, labelOf: commonLabels(pair.train, source) };
      await runEvaluation(options, (context) =>
        evaluateLinear(context, {
          pair,
          selection,
          holdOut,
          augment: options.augment ?? !context.gpu.capabilities.software,
          iterations,
          batch,
          baseRates,
          onlyTestClasses: options.onlyTestClasses,
          multiLabels,
        }),
      );
    } finally {
      await source?.close();
    }
  } finally {
    await pair.close();
  }
}

function ratesOf({ grid = 'official', lrs }: EvalLinearArguments): readonly number[] {
  if (grid !== 'official' && grid !== 'paper') {
    throw new UsageError(`--grid ${grid} is unknown; use official or paper`);
  }
  if (lrs === undefined) return BASE_RATES[grid];
  const rates = (typeof lrs === 'string' ? lrs.split(',') : lrs).map(Number);
  if (rates.length === 0 || rates.some((rate) => !(rate > 0 && Number.isFinite(rate)))) {
    throw new UsageError(`--lrs takes positive numbers such as 0.001,0.01, not ${lrs}`);
  }
  return rates;
}
