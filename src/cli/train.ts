/** `webdino train` and `webdino resume`: a folder of pictures in, a run folder out. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { isBuiltInDataset, openDataset } from '../data/mnist_source.js';
import type { ImageSource } from '../data/source.js';
import { trainingSchedules } from '../dinov2/schedules.js';
import { UsageError } from '../errors.js';
import { adapterMemory, formatBytes } from '../gpu/adapter_memory.js';
import type { Gpu } from '../gpu/device.js';
import { openGpu } from '../node.js';
import type { Checkpoint } from '../train/checkpoint.js';
import { type ConfigSources, loadConfig, type PartialConfig, type ResolvedConfig } from '../train/config.js';
import { isDistillation } from '../train/distillation.js';
import { KnnMonitor } from '../train/knn_monitor.js';
import { formatDuration, Progress, shortNumber } from '../io/progress.js';
import { checkTrainingFits, planTraining } from '../train/plan.js';
import { prepareResume, type RunOptions, type TrainResult, trainTogether } from '../train/trainer.js';
import { commonCheckpoint, studentFolders } from '../train/student_folders.js';
import { interruptible } from './interrupt.js';

/** Options of both verbs, as the command line gives them. */
export interface RunArguments {
  /** Writes what a step consists of to this file (JSON). */
  readonly trace?: string;
  /** One JSON object on standard output instead of lines for people. */
  readonly json?: boolean;
  /** No progress; warnings are shown all the same. */
  readonly quiet?: boolean;
}

export interface TrainArguments extends RunArguments {
  readonly data?: string;
  readonly out?: string;
  readonly config?: string;
  readonly preset?: string;
  readonly set?: readonly string[];
  readonly steps?: string | number;
  readonly seed?: string | number;
  readonly overwrite?: boolean;
  readonly dryRun?: boolean;
}

export interface ResumeArguments extends RunArguments {
  readonly from?: string;
  readonly set?: readonly string[];
}

/** Starts a run, or with `dryRun` says what it would take. */
export async function train(args: TrainArguments): Promise<void> {
  const config = trainConfig(args);
  if (isDistillation(config)) {
    throw new UsageError('distill.teacher names a frozen teacher: use webdino distill with these options');
  }
  await withTrainingData(config, async (gpu, source) => {
    if (args.dryRun) await dryRun(gpu, [config], source, args);
    else await runAndTell(gpu, config, source, config.train.output_dir, args, { overwrite: args.overwrite });
  });
}

/** Opens pictures and GPU for as long as `body` takes. */
export async function withTrainingData(
  config: ResolvedConfig,
  body: (gpu: Gpu, source: ImageSource) => Promise<void>,
): Promise<void> {
  const source = await openDataset(config.train.dataset_path);
  try {
    const gpu = await openGpu();
    try {
      await body(gpu, source);
    } finally {
      gpu.close();
    }
  } finally {
    await source.close();
  }
}

/** Goes on with the run in a folder, or with all students of a distillation. */
export async function resume(folder: string, args: ResumeArguments): Promise<void> {
  const folders = studentFolders(folder);
  const from = args.from ?? (folders.length > 1 ? await commonCheckpoint(folders) : undefined);
  const runs: (RunOptions & { readonly changed: string[] })[] = [];
  for (const out of folders) {
    const { checkpoint, config, changed } = await prepareResume(out, { ...args, from });
    runs.push({ out, config, resume: checkpoint, changed });
  }
  await withTrainingData(runs[0].config, async (gpu, source) => {
    const changed = [...new Set(runs.flatMap((run) => run.changed))];
    if (changed.length > 0) {
      console.error(
        `Changed since the checkpoint: ${changed.join(', ')}. The run goes on, but not as it would have before.`,
      );
    }
    await runAllAndTell(gpu, source, runs, args);
  });
}

/**
 * Configuration of a new run: preset, file, `--set`, then the other options; paths are made absolute, so that it runs anywhere.
 * @param more what other options say, and a student's own layer
 */
export function trainConfig(
  args: TrainArguments,
  more: { readonly overrides?: PartialConfig; readonly student?: ConfigSources['student'] } = {},
): ResolvedConfig {
  const overrides: PartialConfig = {
    ...more.overrides,
    train: {
      dataset_path: args.data,
      output_dir: args.out,
      steps: wholeNumber('--steps', args.steps, 1),
      seed: wholeNumber('--seed', args.seed, 0),
    },
  };
  const { preset, config: file, set } = args;
  const config = loadConfig({ preset, file, student: more.student, set, overrides });
  const { train } = config;
  if (/^ImageNet/.test(train.dataset_path) && !existsSync(train.dataset_path)) {
    throw new UsageError('--data is missing: a folder, a .zip or a .tar of pictures');
  }
  const absolute = (path: string): string => (path === '' || isBuiltInDataset(path) ? path : resolve(path));
  for (const key of ['dataset_path', 'eval_train_path', 'eval_val_path'] as const) train[key] = absolute(train[key]);
  if (train.output_dir !== '.') train.output_dir = resolve(train.output_dir);
  else if (!args.dryRun) throw new UsageError('--out is missing: the folder that the run is written to');
  return config;
}

/** A whole number of at least `least`, or undefined. */
export function wholeNumber(option: string, value: string | number | undefined, least: number): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < least || value === '') {
    throw new UsageError(`${option} takes a whole number from ${least}, not ${JSON.stringify(value)}`);
  }
  return number;
}

/** Trains and prints what came of it. */
export async function runAndTell(
  gpu: Gpu,
  config: ResolvedConfig,
  source: ImageSource,
  out: string,
  args: RunArguments,
  start: { readonly checkpoint?: Checkpoint; readonly overwrite?: boolean },
): Promise<TrainResult> {
  const run = { config, out, resume: start.checkpoint };
  const [result] = await runAllAndTell(gpu, source, [run], args, start.overwrite);
  return result;
}

/** Trains one run, or several students in step, and prints what came of them. */
export async function runAllAndTell(
  gpu: Gpu,
  source: ImageSource,
  runs: readonly RunOptions[],
  args: RunArguments,
  overwrite?: boolean,
): Promise<TrainResult[]> {
  const startMs = performance.now();
  const results = await runAll(gpu, source, runs, args, overwrite);
  const timeMs = performance.now() - startMs;
  const told = results.map((result, i) => ({ out: runs[i].out, timeMs: Math.round(timeMs), ...result }));
  if (args.json) console.log(JSON.stringify(told.length === 1 ? told[0] : told, null, 2));
  else console.log(told.map(({ out }, i) => summary(out, results[i], timeMs)).join('\n\n'));
  return results;
}

/** Trains one run, or several students in step, with progress on standard error. */
export async function runAll(
  gpu: Gpu,
  source: ImageSource,
  runs: readonly RunOptions[],
  args: RunArguments,
  overwrite?: boolean,
): Promise<TrainResult[]> {
  const configs = runs.map(({ config }) => config);
  await checkTrainingFits(gpu, configs[0], availableMemory(gpu), configs.slice(1));
  const totalSteps = trainingSchedules(configs[0]).lr.length;
  const startStep = runs[0].resume?.state.step ?? 0;
  const progress = new Progress({ totalSteps, startStep, quiet: args.quiet === true });
  progress.tell(
    `${gpu.capabilities.description}; ${source.length.toLocaleString('en-US')} pictures from ${source.path}`,
  );
  const into = runs.map(({ out }) => out).join(', ');
  progress.tell(
    startStep > 0 ? `Going on at step ${startStep} of ${totalSteps} in ${into}` : `${totalSteps} steps into ${into}`,
  );
  const monitors: (KnnMonitor | undefined)[] = [];
  try {
    for (const config of configs) monitors.push(await KnnMonitor.open(gpu, config));
    return await interruptible(
      (signal) =>
        trainTogether(
          { gpu, source, overwrite, signal, progress, tracePath: args.trace },
          runs.map((run, i) => ({ ...run, monitor: monitors[i] })),
        ),
      () => progress.note('Stopping at a checkpoint. Ctrl-C again to stop at once, without one.'),
    );
  } finally {
    for (const monitor of monitors) await monitor?.close();
  }
}

/** A few lines for people. */
function summary(out: string, result: TrainResult, timeMs: number): string {
  const { step, totalSteps, last, knn, warnings, badPictures, checkpoint, reportPath } = result;
  const lines = [
    `${step} of ${totalSteps} steps, ${formatDuration(timeMs)}${last ? `, loss ${shortNumber(last.totalLoss)}` : ''}`,
  ];
  if (knn) {
    const cells = [
      ['kNN top-1, %', ...knn.k.map((k) => `k = ${k}`)],
      ...knn.rows.map(({ name, top1 }) => [name, ...top1.map((value) => value.toFixed(1))]),
    ];
    const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
    const pad = (text: string, column: number): string =>
      column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]);
    lines.push('', ...cells.map((row) => `  ${row.map(pad).join('   ')}`), '');
  }
  if (badPictures > 0)
    lines.push(`${badPictures} pictures could not be read and were skipped; metrics.jsonl names them`);
  if (warnings > 0) lines.push(`${warnings} warnings; the report repeats them`);
  lines.push(`checkpoint  ${checkpoint}`, `report      ${reportPath}`);
  if (step < totalSteps) lines.push(`go on with  webdino resume ${out}`);
  return lines.join('\n');
}

/** Memory that a run may take: the GPU's where a tool tells, the machine's for an adapter that runs on the CPU. */
function availableMemory({ capabilities }: Gpu): number {
  const { hostFreeBytes, gpuBytes } = adapterMemory(!capabilities.software);
  return capabilities.software ? hostFreeBytes : (gpuBytes ?? Number.POSITIVE_INFINITY);
}

/** Prints what a run, or several students together, would take. */
export async function dryRun(
  gpu: Gpu,
  [config, ...others]: readonly ResolvedConfig[],
  source: ImageSource,
  args: RunArguments,
): Promise<void> {
  const plan = await planTraining(gpu, config, others);
  if (args.json) {
    console.log(JSON.stringify({ adapter: gpu.capabilities.description, pictures: source.length, ...plan }, null, 2));
    return;
  }
  const millions = (count: number): string => `${(count / 1e6).toPrecision(4)} million`;
  const { parameters, backboneParameters, peakBytes, dispatches, flops, steps, batch, learningRate } = plan;
  const passes = (steps * batch) / source.length;
  const available = availableMemory(gpu);
  console.log(
    [
      `adapter      ${gpu.capabilities.description}`,
      `pictures     ${source.length.toLocaleString('en-US')} from ${source.path}`,
      `parameters   ${millions(parameters)}, of them ${millions(backboneParameters)} in the backbone`,
      `GPU memory   ${formatBytes(peakBytes)} at the peak${Number.isFinite(available) ? `, of ${formatBytes(available)}` : ''}`,
      `a step       ${dispatches} dispatches, ${(flops / 1e9).toPrecision(4)} GFLOP, ${batch} pictures`,
      `steps        ${steps.toLocaleString('en-US')}, ${passes.toPrecision(3)} passes over the pictures, learning rate ${learningRate.toExponential(3)}`,
    ].join('\n'),
  );
}
