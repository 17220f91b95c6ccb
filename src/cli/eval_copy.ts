/** `webdino eval copy`: copy detection by frozen features. */

import { evaluateCopy } from '../eval/copy_detection.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { required } from './model.js';
import { globalNamed } from './search_options.js';

export interface EvalCopyArguments extends EvaluationArguments {
  /** The csv of roles and groups, where it does not lie beside the archive. */
  readonly groups?: string;
  /** Folder or archive of background pictures that scores are normalised by. */
  readonly normalise?: string;
  /** `cls`, `patch-mean` or `cls+patch-mean`. */
  readonly global?: string;
}

/**
 * Prints the micro average precision of all pairs.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalCopy(options: EvalCopyArguments): Promise<void> {
  const data = required('--test', options.test);
  const { groups, normalise } = options;
  const global = globalNamed(options.global);
  await runEvaluation(options, (context) => evaluateCopy(context, { data, groups, normalise, global }));
}
