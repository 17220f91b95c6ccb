/**
 * `webdino tune`: times the variants of the kernels for the shapes of a training step or of feature extraction on this
 * device, and keeps the winners in a table that `openGpu` reads. Exit codes: 0 all variants were right, 1 one was not (it
 * has no time and cannot win), 2 wrong usage, 3 no GPU.
 */

import type { TuningOutcome } from '../../bench/tuning.js';
import type { TuningCase } from '../../bench/tuning_cases.js';
import { SslTrainer } from '../dinov2/ssl.js';
import { vitParameters } from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import { FeatureExtractor } from '../eval/features.js';
import type { Gpu } from '../gpu/device.js';
import { readTunedTable, userTablePath } from '../gpu/node_tuning.js';
import { adapterKey, formatTunedTable, mergeTuned, type TunedTable } from '../gpu/tuning.js';
import { writeFileAtomic } from '../io/atomic.js';
import { openGpu } from '../node.js';
import { ParameterStore } from '../tensor/parameters.js';
import { loadConfig } from '../train/config.js';
import { formatDuration } from '../io/progress.js';
import { sslConfig, vitConfig } from '../train/ssl_config.js';
import { positiveInteger, storageNamed } from './model.js';

/** As the command line gives them. */
export interface TuneArguments {
  /** With one of these: the shapes of a training step. */
  readonly preset?: string;
  readonly config?: string;
  readonly set?: readonly string[];
  /** Without them, of feature extraction. */
  readonly arch?: string;
  readonly patch?: string;
  readonly size?: string;
  /** Of both. */
  readonly batch?: string;
  readonly dtype?: string;
  /** For each shape, at least. */
  readonly seconds?: string;
  /** The table to write; the user's own without it. */
  readonly out?: string;
  readonly json?: boolean;
  readonly dryRun?: boolean;
}

const SECONDS = { software: 0.3, gpu: 1 };

const FEATURE_DEFAULTS = { arch: 'vit_small', patch: 14, size: 224, softwareBatch: 16, gpuBatch: 64 };

/**
 * Tunes, prints what it found and writes the table, after every shape so that an interruption loses nothing.
 * @returns the exit code
 * @throws UsageError, NoGpuError with one line that says what to do
 */
export async function tune(options: TuneArguments): Promise<number> {
  const record = recorderOf(options);
  const seconds = options.seconds === undefined ? undefined : Number(options.seconds);
  if (seconds !== undefined && !(seconds > 0)) {
    throw new UsageError(`--seconds takes a number above 0, not '${options.seconds}'`);
  }
  const path = options.out ?? userTablePath();
  const say = options.json ? console.error : console.log;
  const [{ keysOf, tuningCases }, { tuneCase }, { Calibration }] = await Promise.all([
    import('../../bench/tuning_cases.js'),
    import('../../bench/tuning.js'),
    import('../../bench/calibration.js'),
  ]);
  const gpu = await openGpu();
  try {
    const { capabilities } = gpu;
    const keys = keysOf(gpu, (dry) => record(dry));
    const cases = tuningCases(keys, capabilities);
    const adapter = adapterKey(capabilities);
    const variants = cases.reduce((sum, { choices }) => sum + choices.length, 0);
    say(`${adapter}: ${cases.length} shapes with ${variants} variants`);
    const width = Math.max(...cases.map(({ key }) => key.length), 0);
    if (options.dryRun) {
      for (const one of cases) say(`${one.key.padEnd(width)}  ${dryLine(one)}`);
      if (options.json) console.log(JSON.stringify({ adapter, table: path, shapes: cases.map(dryShape) }, null, 2));
      return 0;
    }

    const begin = performance.now();
    const outcomes: TuningOutcome[] = [];
    let table = formerTable(path);
    const calibration = await Calibration.open(gpu);
    try {
      for (const one of cases) {
        const outcome = await tuneCase(gpu, one, {
          seconds: seconds ?? SECONDS[capabilities.software ? 'software' : 'gpu'],
          calibration,
        });
        outcomes.push(outcome);
        say(`${one.key.padEnd(width)}  ${outcomeLine(outcome)}`);
        table = mergeTuned(table, new Map([[adapter, new Map(Object.entries(outcome.entries))]]));
        await writeFileAtomic(path, formatTunedTable(table));
      }
    } finally {
      calibration.close();
    }
    const changed = outcomes.filter(({ winner, rule }) => winner !== undefined && winner !== rule).length;
    const took = formatDuration(performance.now() - begin);
    say(`${changed} of ${cases.length} shapes run faster with another variant than the rule's; ${took}`);
    if (cases.length > 0) say(`written: ${path}`);
    if (options.json) console.log(JSON.stringify({ adapter, table: path, shapes: outcomes }, null, 2));
    const refused = outcomes.flatMap(({ key, choices }) =>
      choices.flatMap(({ name, refused }) => (refused === undefined ? [] : [`${key}, ${name}: ${refused}`])),
    );
    for (const line of refused) console.error(`refused: ${line}`);
    return refused.length > 0 ? 1 : 0;
  } finally {
    gpu.close();
  }
}

/** What records the program to be tuned on a dry GPU. */
function recorderOf(options: TuneArguments): (dry: Gpu) => void {
  const { preset, config: file, set, arch, patch, size } = options;
  const batch = positiveInteger('--batch', options.batch);
  const dtype = options.dtype === undefined ? undefined : storageNamed('--dtype', options.dtype);
  if (preset !== undefined || file !== undefined || set !== undefined) {
    for (const [option, value] of Object.entries({ arch, patch, size })) {
      if (value !== undefined) {
        throw new UsageError(`--${option} belongs to feature extraction; a training step takes --set`);
      }
    }
    const ssl = sslConfig(
      loadConfig({ preset, file, set, overrides: { train: { batch_size_per_gpu: batch, dtype } } }),
    );
    return (dry) => void new SslTrainer(dry, ssl);
  }
  const side = positiveInteger('--size', size) ?? FEATURE_DEFAULTS.size;
  const vit = vitConfig(
    loadConfig({
      set: [
        `student.arch=${arch ?? FEATURE_DEFAULTS.arch}`,
        `student.patch_size=${positiveInteger('--patch', patch) ?? FEATURE_DEFAULTS.patch}`,
        `crops.global_crops_size=${side}`,
        `crops.local_crops_size=${side}`,
      ],
    }),
  );
  return (dry) => {
    const usual = dry.capabilities.software ? FEATURE_DEFAULTS.softwareBatch : FEATURE_DEFAULTS.gpuBatch;
    const weights = new ParameterStore(dry, 'backbone', vitParameters(vit));
    new FeatureExtractor(dry, { vit, weights, batch: batch ?? usual, size: side, dtype });
  };
}

/** The entries that are there already; those of another shape or adapter stay. A table that cannot be read is replaced. */
function formerTable(path: string): TunedTable {
  try {
    return readTunedTable(path);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return new Map();
  }
}

function dryLine({ choices, rule }: TuningCase): string {
  return choices.map(({ name }) => (name === rule ? `${name} (rule)` : name)).join(', ');
}

function dryShape({ key, choices, rule }: TuningCase) {
  return { key, rule, choices: choices.map(({ name }) => name) };
}

/** `direct 3.21 ms, tiled 9.87 ms: direct (rule)`, the fastest first. */
function outcomeLine({ choices, winner, rule, gain }: TuningOutcome): string {
  const times = [...choices]
    .sort((a, b) => (a.ms ?? Infinity) - (b.ms ?? Infinity))
    .map(({ name, ms }) => `${name} ${ms === undefined ? 'refused' : `${ms.toPrecision(3)} ms`}`)
    .join(', ');
  const verdict =
    winner === undefined
      ? 'none is right'
      : winner === rule
        ? `${winner} (rule)`
        : `${winner}${gain === undefined ? '' : `, ${gain.toFixed(2)} times as fast as ${rule}`}`;
  return `${times}: ${verdict}`;
}
