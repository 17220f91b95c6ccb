/** `webdino eval knn`: how well the nearest neighbours among labelled pictures tell the class of others (spec §6.2). */

import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../errors.js';
import { KNN_TEMPERATURE, type KnnScore } from '../eval/knn.js';
import { evaluateKnn, type KnnReport } from '../eval/knn_evaluation.js';
import { openLabelledPair } from '../eval/labelled_pair.js';
import { type EvaluationArguments, runEvaluation } from './evaluation.js';
import { findModel, positiveInteger, required } from './model.js';

export interface EvalKnnArguments extends EvaluationArguments {
  /** "10,20,100,200". */
  readonly k?: string | number | readonly number[];
  readonly temperature?: string | number;
  /** Few-shot: training pictures of each class, and draws to average over. */
  readonly nPerClass?: string | number;
  readonly nTries?: string | number;
  /** The floors by their former name; they are there unless `floors` is false. */
  readonly baselines?: boolean;
}

const RESULTS_FILE = 'results_eval_knn.json';

/**
 * Prints kNN accuracies and appends them to `results_eval_knn.json` in the run's folder, if the model lies in one.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalKnn(options: EvalKnnArguments): Promise<void> {
  const k = neighbourCounts(options.k);
  const temperature = Number(options.temperature ?? KNN_TEMPERATURE);
  if (!(temperature > 0)) throw new UsageError(`--temperature takes a positive number, not ${options.temperature}`);
  const nPerClass = positiveInteger('--n-per-class', options.nPerClass);
  const nTries = positiveInteger('--n-tries', options.nTries) ?? 1;
  const model = await findModel(options);
  const pair = await openLabelledPair(required('--train', options.train), required('--test', options.test));
  try {
    await runEvaluation(options, async (context) => {
      const report = await evaluateKnn(context, { pair, k, temperature, nPerClass, nTries });
      if (model.runFolder !== undefined) {
        const facts = {
          model: model.weightsPath,
          network: model.network,
          step: model.step,
          train: report.train,
          test: report.test,
          size: model.crop,
          resize: model.resize,
          dtype: model.dtype,
          temperature,
          ...(nPerClass === undefined ? {} : { nPerClass, nTries }),
        };
        const line = { ...facts, ...officialResults(report, nPerClass) };
        await appendFile(join(model.runFolder, RESULTS_FILE), JSON.stringify(line) + '\n');
      }
      return report;
    });
  } finally {
    await pair.close();
  }
}

function neighbourCounts(k: EvalKnnArguments['k']): number[] | undefined {
  if (k === undefined) return undefined;
  const parts = typeof k === 'string' ? k.split(',') : [k].flat();
  return parts.map((part) => positiveInteger('--k', typeof part === 'string' ? part.trim() : part)!);
}

/** The keys of the official result file, values in percent (spec §6.2, 6). */
function officialResults({ rows }: KnnReport, nPerClass: number | undefined): Record<string, number> {
  const set = nPerClass === undefined ? "'full'" : `'${nPerClass} per class'`;
  return Object.fromEntries(
    rows[0].scores.flatMap(({ k, top1, top5 }: KnnScore) => [
      [`(${set}, ${k}) Top 1`, top1],
      [`(${set}, ${k}) Top 5`, top5],
    ]),
  );
}
