/** Runs suites on one adapter, in order, and gathers what `webdino bench` prints, writes as JSON or draws. */

import { availableParallelism, cpus, loadavg } from 'node:os';
import { UsageError } from '../src/errors.js';
import type { Gpu } from '../src/gpu/device.js';
import { openGpu } from '../src/node.js';
import { Calibration } from './calibration.js';
import { type Ceilings, measureCeilings, usesMatrices } from './ceilings.js';
import { FEATURE_DEFAULTS, type FeatureOutcome, type FeatureSettings, measureFeatures } from './features_suite.js';
import { dryStep, measureStep, STEP_DEFAULTS, type StepOutcome, type StepSettings } from './step_suite.js';
import { againstCeilings, type BenchRow, OPERATOR_SUITES, type PeerRow, runOperators, SUITE_NAMES } from './suites.js';

export interface BenchSettings {
  /** One of {@link SUITE_NAMES}. */
  readonly suite: string;
  /** By default `small` on adapters that run on the CPU. */
  readonly shapes?: 'full' | 'small';
  /** For each case, at least; by default 1, with small shapes 0.3. */
  readonly seconds?: number;
  /** What differs from the defaults of the shapes. */
  readonly step?: Partial<StepSettings>;
  readonly features?: Partial<FeatureSettings>;
  /** Count what the step would take; run nothing. */
  readonly dryRun?: boolean;
}

/** What a run measured, as `--json` prints it. */
export interface BenchReport {
  readonly adapter: string;
  /** Why this adapter was taken. */
  readonly reason: string;
  readonly processor: string;
  readonly processors: number;
  /** Of the machine, when the run began. */
  readonly load: number;
  readonly node: string;
  readonly date: string;
  readonly suite: string;
  readonly shapes: 'full' | 'small';
  readonly ceilings?: Ceilings;
  readonly rows: BenchRow[];
  readonly peers: PeerRow[];
  readonly step?: StepOutcome;
  readonly features?: FeatureOutcome;
}

/** Told what is found while the run goes on. */
export interface BenchListener {
  readonly onStart?: (report: BenchReport) => void;
  readonly onCeilings?: (ceilings: Ceilings) => void;
  readonly onSuite?: (name: string, question: string) => void;
  readonly onRow?: (row: BenchRow) => void;
  readonly onPeer?: (row: PeerRow) => void;
  readonly onStep?: (step: StepOutcome) => void;
  readonly onFeatures?: (features: FeatureOutcome) => void;
}

const SECONDS = { small: 0.3, full: 1 };

/** @throws UsageError for an unknown suite, NoGpuError, GpuError when the GPU failed as a whole */
export async function runSuites(settings: BenchSettings, listener: BenchListener = {}): Promise<BenchReport> {
  const { suite } = settings;
  if (!SUITE_NAMES.includes(suite)) {
    throw new UsageError(`there is no bench suite ${suite}; use one of ${SUITE_NAMES.join(', ')}`);
  }
  const gpu = await openGpu();
  try {
    return await runOn(gpu, settings, listener);
  } finally {
    gpu.close();
  }
}

/** Whether a run found something wrong. */
export function refusals({ rows, features }: BenchReport): string[] {
  const lines = rows.flatMap((row) =>
    'refused' in row && row.refused ? [`${row.operator}, ${row.shape}: ${row.refused}`] : [],
  );
  if (features && 'refused' in features) lines.push(`features: ${features.refused}`);
  return lines;
}

async function runOn(gpu: Gpu, settings: BenchSettings, listener: BenchListener): Promise<BenchReport> {
  const { suite, dryRun = false } = settings;
  const { capabilities } = gpu;
  const shapes = settings.shapes ?? (capabilities.software ? 'small' : 'full');
  const small = shapes === 'small';
  const seconds = settings.seconds ?? SECONDS[shapes];
  const wants = (name: string): boolean => suite === 'all' || suite === name;
  let report: BenchReport = {
    adapter: capabilities.description,
    reason: gpu.reason,
    processor: cpus()[0]?.model ?? 'unknown',
    processors: availableParallelism(),
    load: loadavg()[0],
    node: process.version,
    date: new Date().toISOString(),
    suite,
    shapes,
    rows: [],
    peers: [],
  };
  listener.onStart?.(report);
  const stepSettings = { ...STEP_DEFAULTS[shapes], ...settings.step };
  if (dryRun) {
    const step = await dryStep(gpu, stepSettings);
    listener.onStep?.(step);
    return { ...report, step };
  }

  const calibration = await Calibration.open(gpu);
  try {
    const ceilings = await measureCeilings(gpu, calibration, seconds, small);
    report = { ...report, ceilings };
    listener.onCeilings?.(ceilings);
    for (const operators of OPERATOR_SUITES.filter(({ name }) => wants(name))) {
      listener.onSuite?.(operators.name, operators.question);
      const { onRow, onPeer } = listener;
      const { rows, peers } = await runOperators(gpu, operators, calibration, ceilings, {
        seconds,
        small,
        onRow,
        onPeer,
      });
      report.rows.push(...rows);
      report.peers.push(...peers);
    }
    if (wants('step')) {
      listener.onSuite?.('step', 'How fast is a training step, and where does its time go?');
      const step = await measureStep(() => openGpu(), stepSettings);
      report = { ...report, step };
      report.rows.push(stepRow(step, ceilings));
      listener.onStep?.(step);
    }
    if (wants('features')) {
      listener.onSuite?.('features', 'How many pictures a second go through a frozen backbone?');
      const wanted = { ...FEATURE_DEFAULTS[shapes], ...settings.features };
      const features = await measureFeatures(gpu, wanted, calibration, seconds);
      report = { ...report, features };
      listener.onFeatures?.(features);
    }
  } finally {
    calibration.close();
  }
  return report;
}

/** The step as one line among the operators. */
function stepRow(step: StepOutcome, ceilings: Ceilings): BenchRow {
  const { arch, patch, batch, global, local, nLocal, dtype, plain } = step.settings;
  const operator = `${plain ? 'plain ' : ''}training step, ${arch}/${patch} (${dtype})`;
  const shape = `batch ${batch}, 2 × ${global} px + ${nLocal} × ${local} px`;
  if (!('msPerStep' in step)) {
    return { suite: 'step', operator, shape, refused: 'refused' in step ? step.refused : undefined };
  }
  const { msPerStep: ms, flops, bytes, tflops, error, calibration, kernels } = step;
  const onMatrices = usesMatrices(kernels.map(({ kernel }) => kernel));
  return {
    suite: 'step',
    operator,
    shape,
    ms,
    clock: 'wall',
    tflops,
    gigabytesPerSecond: bytes / ms / 1e6,
    flops,
    bytes,
    onMatrices,
    ...againstCeilings({ ms, flops, bytes, onMatrices }, ceilings),
    error,
    calibration,
    // They are in the step's own table.
    kernels: [],
  };
}
