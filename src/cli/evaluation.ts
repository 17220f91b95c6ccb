/** What all `webdino eval` verbs share: opening models and floors, running the task, printing and writing what came out. */

import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../errors.js';
import { histogramModel, pixelModel, randomModel } from '../eval/floor_models.js';
import type { FrozenModel } from '../eval/frozen_model.js';
import { networkModel } from '../eval/network_model.js';
import { reportJson, writeReport } from '../eval/report_files.js';
import { marginLines, reportTable } from '../eval/report_text.js';
import type { EvaluationReport } from '../eval/result.js';
import { scaledModel } from '../eval/scaled_model.js';
import type { EvaluationContext } from '../eval/task.js';
import type { Gpu } from '../gpu/device.js';
import { openGpu } from '../node.js';
import { Progress } from '../io/progress.js';
import {
  describeVit,
  findModel,
  type ModelArguments,
  type ModelSettings,
  openModel,
  positiveInteger,
} from './model.js';

export interface EvaluationArguments extends ModelArguments {
  /** What heads learn from. */
  readonly train?: string;
  /** What is reported. */
  readonly test?: string;
  /** Folder for results.json, results.csv and report.html. */
  readonly out?: string;
  readonly json?: boolean;
  /** Other models, given like `model`; the teacher of each. */
  readonly compare?: string | readonly string[];
  /** Default: true. */
  readonly floors?: boolean;
  readonly seed?: string | number;
  /** Bootstrap draws behind each interval. */
  readonly draws?: string | number;
}

export const BOOTSTRAP_DRAWS = 1000;

/** Exit code of a program that Ctrl-C ended, by the shells' convention: 128 + SIGINT. */
const INTERRUPTED = 130;

/** One of the networks of an evaluation, found but not opened. */
export interface NamedModel {
  /** What tables call it. */
  readonly name: string;
  readonly settings: ModelSettings;
}

/** Networks and floors on the GPU, and how pictures go into them. */
export interface OpenedModels extends Pick<EvaluationContext, 'models' | 'crop' | 'resize' | 'batch'> {
  /** What floors are made for: patches, crop and shorter side of the first network, and its crop as a share of `crop`. */
  readonly first: {
    readonly patchSize: number;
    readonly crop: number;
    readonly resize: number;
    readonly scale: number;
  };
  /** A line a network: what it is, and at which size it sees pictures. */
  readonly descriptions: readonly string[];
  dispose(): void;
}

/**
 * Runs one task on the model, on what it is compared with and on the floors; prints the table (or JSON) and writes files.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function runEvaluation(
  args: EvaluationArguments,
  task: (context: EvaluationContext) => Promise<EvaluationReport>,
): Promise<void> {
  const seed = seedNumber(args.seed);
  const bootstrapDraws = positiveInteger('--draws', args.draws) ?? BOOTSTRAP_DRAWS;
  const named = await findModels(args);
  const report = await withCacheFolder(async (cacheFolder) => {
    const gpu = await openGpu();
    try {
      const opened = await openModels(gpu, named, args);
      const progress = new Progress({ totalSteps: 1 });
      try {
        for (const line of opened.descriptions) progress.note(`${line} on ${gpu.capabilities.description}`);
        const { models, crop, resize, batch } = opened;
        const result = await task({
          gpu,
          models,
          seed,
          bootstrapDraws,
          crop,
          resize,
          batch,
          cacheFolder,
          ...progressCallbacks(progress),
        });
        return {
          ...result,
          settings: { ...modelFacts(named), seed, bootstrapDraws, crop, resize, ...result.settings },
        };
      } finally {
        progress.done();
        opened.dispose();
      }
    } finally {
      gpu.close();
    }
  });
  if (args.out !== undefined) await writeReport(args.out, report);
  console.log(args.json ? reportJson(report) : reportText(report));
}

/** The weights behind the names of a report, so that it can be had again. */
export function modelFacts(named: readonly NamedModel[]): Record<string, unknown> {
  return {
    networks: named.map(({ name, settings }) => ({
      name,
      weights: settings.weightsPath,
      ...(settings.step === undefined ? {} : { step: settings.step }),
      crop: settings.crop,
      resize: settings.resize,
      dtype: settings.dtype,
    })),
  };
}

/** A whole number from 0; 0 where none is given. @throws UsageError for anything else */
export function seedNumber(seed: string | number | undefined): number {
  const number = Number(seed ?? 0);
  if (!Number.isSafeInteger(number) || number < 0 || seed === '') {
    throw new UsageError(`--seed takes a whole number from 0, not ${JSON.stringify(seed)}`);
  }
  return number;
}

/**
 * Finds `model` and what it is compared with, before any GPU is opened. `--student` and `--heads` are of `model` only, the
 * other options of all.
 * @throws UsageError for an option that cannot be or a model given twice; DataError if no model is there
 */
export async function findModels(args: EvaluationArguments): Promise<NamedModel[]> {
  const others = args.compare === undefined ? [] : [args.compare].flat();
  const named: NamedModel[] = [{ name: '', settings: await findModel(args) }];
  for (const path of others) {
    named.push({ name: '', settings: await findModel({ ...args, model: path, student: undefined, heads: undefined }) });
  }
  const paths = [args.model, ...others].map((path) => path.replace(/(?<=.)\/+$/, ''));
  const names = named.map(({ settings }, i) =>
    settings.configPath === undefined && settings.step === undefined ? paths[i] : `${settings.network} of ${paths[i]}`,
  );
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`--compare: ${twice} is given twice`);
  return named.map(({ settings }, i) => ({ name: names[i], settings }));
}

/**
 * Loads the networks and makes the floors for the first one. Where networks take crops of different sizes, the largest is
 * cut and scaled for the others.
 * @throws DataError for a file that is no backbone or not the configuration's; UsageError for a crop that patches do not divide
 */
export async function openModels(
  gpu: Gpu,
  named: readonly NamedModel[],
  { floors = true, size }: Pick<EvaluationArguments, 'floors' | 'size'>,
): Promise<OpenedModels> {
  const { crop, resize } = named
    .map(({ settings }) => settings)
    .reduce((largest, settings) => (settings.crop > largest.crop ? settings : largest));
  const models: FrozenModel[] = [];
  const floorModels: FrozenModel[] = [];
  const descriptions: string[] = [];
  const dispose = (): void => {
    for (const model of [...models, ...floorModels]) model.dispose();
  };
  let batch = Number.POSITIVE_INFINITY;
  let first: OpenedModels['first'] | undefined;
  try {
    for (const [i, { name, settings }] of named.entries()) {
      // Where one size is asked of all, what is compared takes the nearest that its patches divide.
      const opened = await openModel(gpu, settings, { nearest: i > 0 && size !== undefined });
      const { vit, weights } = opened;
      const scale = opened.crop / crop;
      first ??= { patchSize: vit.patchSize, crop: opened.crop, resize: Math.round(resize * scale), scale };
      models.push(scaledModel(networkModel(gpu, { name, vit, weights, dtype: settings.dtype }), scale));
      batch = Math.min(batch, opened.batch);
      descriptions.push(
        `${name} (${describeVit(vit)}), ${opened.crop} px of ${Math.round(resize * scale)} in ${settings.dtype}`,
      );
      if (i > 0 || !floors) continue;
      floorModels.push(scaledModel(await randomModel(gpu, vit), scale));
      floorModels.push(scaledModel(pixelModel(vit.patchSize), scale));
      floorModels.push(scaledModel(histogramModel(vit.patchSize), scale));
    }
    return { models: [...models, ...floorModels], first: first!, crop, resize, batch, descriptions, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Runs `body` with an empty folder for cached features, which is removed in the end: also on an error and on Ctrl-C. */
export async function withCacheFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'webdino-features-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const interrupt = (): void => {
    remove();
    process.exit(INTERRUPTED);
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    return await body(folder);
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    remove();
  }
}

/** `note` and `progress` of a context, shown on standard error. */
export function progressCallbacks(progress: Progress): Pick<EvaluationContext, 'note' | 'progress'> {
  let current: string | undefined;
  return {
    note: (text) => progress.note(text),
    progress: (what, done, total) => {
      if (what !== current) progress.begin(what, total);
      current = what;
      progress.update({ step: done });
    },
  };
}

/** Table, margins and notes, for a terminal. */
export function reportText(report: EvaluationReport): string {
  const parts = [
    reportTable(report),
    marginLines(report).join('\n'),
    report.notes.map((note) => `note: ${note}`).join('\n'),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}
