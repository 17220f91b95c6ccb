/** `webdino eval retrieval`: instance retrieval by frozen features (spec §6.7). */

import { UsageError } from '../errors.js';
import { evaluateRetrieval } from '../eval/retrieval.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { required } from './model.js';
import { globalNamed } from './search_options.js';

export interface EvalRetrievalArguments extends EvaluationArguments {
  /** The csv of groups, where it does not lie beside the archive. */
  readonly groups?: string;
  /** JSON of the revisited Oxford and Paris protocol. */
  readonly gnd?: string;
  /** `cls`, `patch-mean` or `cls+patch-mean`. */
  readonly global?: string;
}

/**
 * Prints mean average precisions.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalRetrieval(options: EvalRetrievalArguments): Promise<void> {
  const data = required('--test', options.test);
  const { groups, gnd } = options;
  if (gnd !== undefined && groups !== undefined)
    throw new UsageError('--gnd and --groups are two kinds of truth: give one');
  const global = globalNamed(options.global);
  await runEvaluation(options, (context) => evaluateRetrieval(context, { data, groups, gnd, global }));
}
