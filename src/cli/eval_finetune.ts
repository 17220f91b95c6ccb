/** `webdino eval finetune`: the whole backbone trained under a linear classification head. */

import type { FineTuner } from '../dinov2/finetune.js';
import { UsageError } from '../errors.js';
import { evaluateFineTune } from '../eval/finetune.js';
import { openLabelledPair } from '../eval/labelled_pair.js';
import { readMultiLabels } from '../eval/multi_labels.js';
import { writeFileAtomic } from '../io/atomic.js';
import { safetensorsChunks, type TensorToStore } from '../io/safetensors.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { positiveInteger, required, storageNamed } from './model.js';

export interface EvalFineTuneArguments extends EvaluationArguments {
  readonly iterations?: string | number;
  /** Pictures a step. */
  readonly trainBatch?: string | number;
  /** For 256 pictures a step. */
  readonly lr?: string | number;
  readonly layerDecay?: string | number;
  readonly labelSmoothing?: string | number;
  readonly dropPath?: string | number;
  readonly weightDecay?: string | number;
  /** JSON of all valid classes of each test picture. */
  readonly real?: string;
  /** Where the trained network and its head go, as .safetensors. */
  readonly save?: string;
}

/**
 * Prints accuracies of the fine-tuned networks.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalFineTune(options: EvalFineTuneArguments): Promise<void> {
  const iterations = positiveInteger('--iterations', options.iterations);
  const batch = positiveInteger('--train-batch', options.trainBatch);
  const number = (option: string, value: string | number | undefined): number | undefined => {
    if (value === undefined) return undefined;
    if (value === '' || !Number.isFinite(Number(value)))
      throw new UsageError(`${option} takes a number, not "${value}"`);
    return Number(value);
  };
  const recipe = {
    iterations,
    batch,
    baseRate: number('--lr', options.lr),
    layerwiseDecay: number('--layer-decay', options.layerDecay),
    labelSmoothing: number('--label-smoothing', options.labelSmoothing),
    dropPathRate: number('--drop-path', options.dropPath),
    weightDecay: number('--weight-decay', options.weightDecay),
    dtype: storageNamed('--dtype', options.dtype),
  };
  const { save } = options;
  const pair = await openLabelledPair(required('--train', options.train), required('--test', options.test));
  try {
    const multiLabels = options.real === undefined ? undefined : await readMultiLabels(options.real, pair);
    const onTrained =
      save === undefined ? undefined : (tuner: FineTuner) => saveClassifier(save, tuner, pair.classNames);
    await runEvaluation(options, (context) => evaluateFineTune(context, { pair, ...recipe, multiLabels, onTrained }));
  } finally {
    await pair.close();
  }
}

/** Official names, `head.weight` [classes, 2 D], `head.bias` [classes]; the classes' names are in the metadata. */
async function saveClassifier(path: string, tuner: FineTuner, classNames: readonly string[]): Promise<void> {
  const tensors = [...(await tuner.readWeights())].map(([name, { shape, data }]): [string, TensorToStore] => [
    name,
    { dtype: 'F32', shape, data },
  ]);
  await writeFileAtomic(path, safetensorsChunks(tensors, { classes: JSON.stringify(classNames) }));
}
