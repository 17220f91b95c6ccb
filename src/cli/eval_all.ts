/** `webdino eval all`: every task that the data sets of a folder allow, for one model beside others and beside floors. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openSource } from '../data/source.js';
import { UsageError } from '../errors.js';
import { evaluateAll, type Outcome, outcomesJson, outcomesText, type SetTask, tasksOf } from '../eval/all.js';
import { standardTasks } from '../eval/all_tasks.js';
import { type DataSet, findDataSets, TARGET_FILE } from '../eval/data_sets.js';
import type { FrozenModel } from '../eval/frozen_model.js';
import { pcaOfPixelsModel } from '../eval/pca_model.js';
import { scaledModel } from '../eval/scaled_model.js';
import { openGpu } from '../node.js';
import { Progress } from '../io/progress.js';
import {
  BOOTSTRAP_DRAWS,
  type EvaluationArguments,
  findModels,
  modelFacts,
  type OpenedModels,
  openModels,
  progressCallbacks,
  seedNumber,
  withCacheFolder,
} from './evaluation.js';
import { positiveInteger, required } from './model.js';

export interface EvalAllArguments extends Omit<EvaluationArguments, 'train' | 'test'> {
  /** Folder of data sets, each a sub-folder. */
  readonly data: string;
  readonly out: string;
  /** `knn,segment`; default: all. */
  readonly tasks?: string | readonly string[];
  /** Names of sets, `cifar10,nyuv2`; default: all. */
  readonly sets?: string | readonly string[];
  /** Shorter heads, fewer draws: to look whether all works. */
  readonly quick?: boolean;
}

const QUICK_DRAWS = 200;

/**
 * Writes OUT/report.html and what belongs to it, and prints an overview. Results in OUT that are still true are not made again.
 * @returns the exit code: 1 where a task failed
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function evalAll(args: EvalAllArguments): Promise<number> {
  const data = required('--data', args.data);
  const out = required('--out', args.out);
  const seed = seedNumber(args.seed);
  const bootstrapDraws = positiveInteger('--draws', args.draws) ?? (args.quick ? QUICK_DRAWS : BOOTSTRAP_DRAWS);
  const all = standardTasks(args.quick === true);
  const tasks = chosen('--tasks', args.tasks, all, ({ name }) => name);
  const named = await findModels(args);
  const sets = chosen('--sets', args.sets, await findDataSets(data), ({ name }) => name);
  const usable = sets.filter((set) => tasksOf(set, tasks).length > 0);
  if (usable.length === 0) throw new UsageError(`no set of ${data} allows ${tasks.map(({ name }) => name).join(', ')}`);
  const weights = await Promise.all(named.map(({ settings }) => stat(settings.weightsPath)));
  const facts = { ...modelFacts(named), files: weights.map(({ size, mtimeMs }) => [size, Math.round(mtimeMs)]) };
  const progress = new Progress({ totalSteps: 1 });
  const outcomes = await withCacheFolder(async (cacheFolder) => {
    const gpu = await openGpu();
    try {
      const opened = await openModels(gpu, named, args);
      try {
        for (const line of opened.descriptions) progress.note(`${line} on ${gpu.capabilities.description}`);
        for (const set of sets)
          if (!usable.includes(set)) progress.note(`${set.name} is left out: ${reason(set, tasks)}`);
        const { models, crop, resize, batch } = opened;
        return await evaluateAll(
          { gpu, models, seed, bootstrapDraws, crop, resize, batch, cacheFolder, ...progressCallbacks(progress) },
          {
            sets: usable,
            tasks,
            out,
            title: `Evaluation of ${named[0].name}`,
            subtitle: [...named.slice(1).map(({ name }) => `beside ${name}`), `on ${data}`].join(', '),
            facts,
            ...(args.floors === false ? {} : { fitFloor: (set: DataSet) => fitFloor(set, opened.first, seed) }),
          },
        );
      } finally {
        opened.dispose();
      }
    } finally {
      progress.done();
      gpu.close();
    }
  });
  progress.note(`written: ${join(out, 'report.html')}`);
  console.log(args.json ? outcomesJson(outcomes) : outcomesText(outcomes));
  return outcomes.some((outcome: Outcome) => 'failure' in outcome) ? 1 : 0;
}

/** @throws UsageError for a name that nothing has */
function chosen<T>(
  option: string,
  list: string | readonly string[] | undefined,
  all: readonly T[],
  nameOf: (one: T) => string,
): readonly T[] {
  if (list === undefined) return all;
  const names = [list].flat().flatMap((part) => part.split(',').map((name) => name.trim()));
  const unknown = names.find((name) => !all.some((one) => nameOf(one) === name));
  if (unknown !== undefined) {
    throw new UsageError(`${option} ${unknown} is unknown; there are ${all.map(nameOf).join(', ')}`);
  }
  return all.filter((one) => names.includes(nameOf(one)));
}

function reason({ annotations }: DataSet, tasks: readonly SetTask[]): string {
  const found = annotations.size === 0 ? 'pictures alone' : [...annotations].join(', ');
  return `it has ${found}, not ${[...new Set(tasks.map(({ on }) => on))].join(', ')}`;
}

/** Principal components of the pixels that heads learn from, at the size at which the first network sees them. */
async function fitFloor(set: DataSet, first: OpenedModels['first'], seed: number): Promise<FrozenModel> {
  const { patchSize, crop, resize, scale } = first;
  const source = await openSource((set.train ?? set.dev ?? set.test)!);
  try {
    const indices = Array.from({ length: source.length }, (_, i) => i).filter((i) => !TARGET_FILE.test(source.name(i)));
    return scaledModel(await pcaOfPixelsModel(source, { patchSize, crop, resize, indices, seed }), scale);
  } finally {
    await source.close();
  }
}
