/** `webdino eval logistic`: L2-regularised logistic regression on frozen features (spec §6.4). */

import { UsageError } from '../errors.js';
import { commonLabels, openLabelled, openLabelledPair } from '../eval/labelled_pair.js';
import { evaluateLogistic } from '../eval/logistic.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { positiveInteger, required } from './model.js';

export interface EvalLogisticArguments extends EvaluationArguments {
  /** Labelled pictures that choose C. */
  readonly val?: string;
  /** Let the test pictures choose C. */
  readonly selectOnTest?: boolean;
  /** "0.01,1,100". */
  readonly cValues?: string | readonly number[];
  readonly maxIter?: string | number;
  /** Choose and report the mean of the classes' accuracies. */
  readonly perClass?: boolean;
}

/**
 * Prints accuracies of the best C of each model.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalLogistic(options: EvalLogisticArguments): Promise<void> {
  const c = strengthsOf(options.cValues);
  const maxIterations = positiveInteger('--max-iter', options.maxIter);
  const { val, selectOnTest, perClass } = options;
  if (val !== undefined && selectOnTest) throw new UsageError('--val and --select-on-test both choose C: give one');
  const pair = await openLabelledPair(required('--train', options.train), required('--test', options.test));
  try {
    const source = val === undefined ? undefined : await openLabelled(val, '--val');
    try {
      const selection = source && { source, labelOf: commonLabels(pair.train, source) };
      await runEvaluation(options, (context) =>
        evaluateLogistic(context, { pair, selection, selectOnTest, c, maxIterations, perClass }),
      );
    } finally {
      await source?.close();
    }
  } finally {
    await pair.close();
  }
}

function strengthsOf(values: EvalLogisticArguments['cValues']): readonly number[] | undefined {
  if (values === undefined) return undefined;
  const strengths = (typeof values === 'string' ? values.split(',') : values).map(Number);
  if (strengths.length === 0 || strengths.some((c) => !(c > 0 && Number.isFinite(c)))) {
    throw new UsageError(`--c-values takes positive numbers such as 0.01,1,100, not ${values}`);
  }
  return strengths;
}
