/**
 * The suites of `webdino bench` over the same registry of cases as `npm run bench`: every operator checked, timed, and set
 * against this adapter's own ceilings, which are measured in the same run.
 */

import type { Gpu } from '../src/gpu/device.js';
import { GpuError } from '../src/errors.js';
import type { Calibration } from './calibration.js';
import { type Ceilings, millisecondsOf, usesMatrices } from './ceilings.js';
import {
  type BenchCase,
  type BenchSection,
  checkedBench,
  type KernelTime,
  type Measured,
  type Outcome,
  peerBench,
  type PeerOutcome,
  WITH_BACKWARD,
} from './checked_bench.js';

/** A suite whose lines are operators. */
export interface OperatorSuite {
  readonly name: string;
  readonly question: string;
  readonly sections: () => Promise<readonly BenchSection[]>;
  /** Which cases of the sections belong to it; all by default. */
  readonly wants?: (operator: string) => boolean;
}

/** In the order of `all`. */
export const OPERATOR_SUITES: readonly OperatorSuite[] = [
  {
    name: 'gemm',
    question: 'How fast is a matrix product?',
    sections: async () => [(await import('./gemm.bench.js')).section],
  },
  {
    name: 'attention',
    question: 'How fast is attention over packed sequences?',
    sections: async () => [(await import('./attention.bench.js')).section],
  },
  {
    name: 'layernorm',
    question: 'How fast is layer-norm, which only moves memory?',
    sections: async () => [(await import('./norms.bench.js')).section],
    wants: (operator) => operator.startsWith('layer_norm'),
  },
  {
    name: 'loss',
    question: 'How fast are the losses and the teacher’s targets?',
    sections: async () => [(await import('./losses.bench.js')).section],
  },
  {
    name: 'adamw',
    question: 'How fast are AdamW and the teacher’s average?',
    sections: async () => [(await import('./optimizer.bench.js')).section],
    wants: (operator) => /adamw|clipping/.test(operator),
  },
];

/** Everything `webdino bench` takes. */
export const SUITE_NAMES: readonly string[] = [...OPERATOR_SUITES.map(({ name }) => name), 'step', 'features', 'all'];

/** A line with numbers. */
export interface MeasuredRow {
  readonly suite: string;
  readonly operator: string;
  readonly shape: string;
  /** Median. */
  readonly ms: number;
  readonly clock: 'timestamps' | 'wall';
  readonly tflops: number;
  readonly gigabytesPerSecond: number;
  /** Floating-point operations and bytes of one application. */
  readonly flops: number;
  readonly bytes: number;
  /** What the ceilings say is the limit: operations or memory. */
  readonly bound: 'compute' | 'memory';
  /** Time at that ceiling over time taken. What stays in the caches can pass 100. */
  readonly percentOfCeiling: number;
  /** Whether the operations ran on matrix units, and so are compared with the product that did. */
  readonly onMatrices: boolean;
  /** The largest relative error against the oracle. */
  readonly error: number;
  /** The calibration product after the timing over before: far from 1, the machine was not quiet. */
  readonly calibration?: number;
  readonly kernels: readonly KernelTime[];
}

/** A line without a number: the result was wrong, or this adapter has no room. */
export interface EmptyRow {
  readonly suite: string;
  readonly operator: string;
  readonly shape: string;
  readonly refused?: string;
  readonly skipped?: string;
}

export type BenchRow = MeasuredRow | EmptyRow;

export interface PeerRow {
  readonly suite: string;
  readonly operator: string;
  readonly shape: string;
  readonly name: string;
  readonly ms?: number;
  readonly tflops?: number;
  readonly error?: number;
  /** Why there is no number. */
  readonly missing?: string;
}

export function isMeasured(row: BenchRow): row is MeasuredRow {
  return 'ms' in row;
}

/** Limit by the ceilings, and how near to it. */
export function againstCeilings(
  work: { readonly ms: number; readonly flops: number; readonly bytes: number; readonly onMatrices: boolean },
  ceilings: Ceilings,
): Pick<MeasuredRow, 'bound' | 'percentOfCeiling'> {
  const gemm = (work.onMatrices && ceilings.gemmOnMatrices) || ceilings.gemm;
  const computeMs = (1000 * work.flops) / gemm.perSecond;
  const memoryMs = (1000 * work.bytes) / ceilings.copy.perSecond;
  return {
    bound: computeMs > memoryMs ? 'compute' : 'memory',
    percentOfCeiling: (100 * Math.max(computeMs, memoryMs)) / work.ms,
  };
}

/** What an operator takes beyond another that it contains. */
function beyond(whole: Measured, part: Measured): Omit<MeasuredRow, 'suite' | 'bound' | 'percentOfCeiling'> {
  const kernels = whole.kernels.flatMap((kernel) => {
    const same = part.kernels.find((other) => other.kernel === kernel.kernel);
    const dispatches = kernel.dispatches - (same?.dispatches ?? 0);
    if (!same || dispatches <= 0) return dispatches > 0 ? [kernel] : [];
    const share = dispatches / kernel.dispatches;
    return [
      {
        kernel: kernel.kernel,
        dispatches,
        timeMs: share * kernel.timeMs,
        flops: share * kernel.flops,
        bytes: share * kernel.bytes,
      },
    ];
  });
  const [before, after] = [part.calibrationMs?.before, whole.calibrationMs?.after];
  return figures({
    operator: `${part.operator}, backward`,
    outcome: { ...whole, calibrationMs: before && after ? { before, after } : undefined },
    // Timestamps tell the kernels apart; the wall clock only the two runs.
    ms: whole.gpuMs
      ? kernels.reduce((sum, { timeMs }) => sum + timeMs, 0)
      : millisecondsOf(whole) - millisecondsOf(part),
    flops: whole.flops - part.flops,
    bytes: whole.bytes - part.bytes,
    kernels,
  });
}

function figures({
  operator,
  outcome,
  ms,
  flops,
  bytes,
  kernels,
}: {
  operator: string;
  outcome: Measured;
  ms: number;
  flops: number;
  bytes: number;
  kernels: readonly KernelTime[];
}): Omit<MeasuredRow, 'suite' | 'bound' | 'percentOfCeiling'> {
  const { shape, gpuMs, error, kernelNames, calibrationMs } = outcome;
  return {
    operator,
    shape,
    ms,
    clock: gpuMs ? 'timestamps' : 'wall',
    tflops: flops / ms / 1e9,
    gigabytesPerSecond: bytes / ms / 1e6,
    flops,
    bytes,
    onMatrices: usesMatrices(kernelNames),
    error,
    calibration: calibrationMs && calibrationMs.after / calibrationMs.before,
    kernels,
  };
}

/** Less work (FLOPs, a byte counted as four) than this tells the latency of a dispatch and no more. */
const TELLING_WORK = { small: 5e6, full: 1e8 };

export interface SuiteSettings {
  /** For each case and each peer, at least. */
  readonly seconds: number;
  /** Shapes that a CPU does in a moment, in place of those of training on a GPU. */
  readonly small: boolean;
  /** Called with each line as soon as it is known. */
  readonly onRow?: (row: BenchRow) => void;
  readonly onPeer?: (row: PeerRow) => void;
}

/**
 * Runs all cases of a suite, then its peers.
 * @throws GpuError when the GPU failed as a whole
 */
export async function runOperators(
  gpu: Gpu,
  suite: OperatorSuite,
  calibration: Calibration,
  ceilings: Ceilings,
  settings: SuiteSettings,
): Promise<{ rows: BenchRow[]; peers: PeerRow[] }> {
  const { seconds, small, onRow, onPeer } = settings;
  const { name, wants = () => true } = suite;
  const rows: BenchRow[] = [];
  const peers: PeerRow[] = [];
  const forward = new Map<string, Measured>();
  const add = (row: BenchRow): void => {
    rows.push(row);
    onRow?.(row);
  };
  for (const section of await suite.sections()) {
    for (const bench of section.cases({ ...gpu.capabilities, software: small })) {
      if (bench.onRequest || !wants(bench.operator)) continue;
      const outcome = await measure(gpu, bench, calibration, seconds, TELLING_WORK[small ? 'small' : 'full']);
      if (!outcome) continue;
      if (!('wallMs' in outcome)) {
        add({ suite: name, ...outcome });
        continue;
      }
      const contained = forward.get(`${outcome.operator.slice(0, -WITH_BACKWARD.length)}, ${outcome.shape}`);
      forward.set(`${outcome.operator}, ${outcome.shape}`, outcome);
      const line =
        contained && outcome.operator.endsWith(WITH_BACKWARD)
          ? beyond(outcome, contained)
          : figures({ ...outcome, outcome, ms: millisecondsOf(outcome) });
      if (line.ms > 0) add({ suite: name, ...line, ...againstCeilings(line, ceilings) });
      else
        add({ suite: name, operator: line.operator, shape: line.shape, skipped: 'too short beside the forward pass' });
    }
    for (const group of section.peers?.(gpu, small) ?? []) {
      for (const peer of group.peers) {
        const row = peerRow(name, await peerBench(group, peer, seconds));
        peers.push(row);
        onPeer?.(row);
      }
    }
  }
  return { rows, peers };
}

/** Undefined for a case that is too small to tell anything here. */
async function measure(
  gpu: Gpu,
  bench: BenchCase,
  calibration: Calibration,
  seconds: number,
  leastWork: number,
): Promise<Outcome | undefined> {
  const { operator, shape } = bench;
  let recorded: ReturnType<BenchCase['record']>;
  try {
    recorded = bench.record(gpu);
  } catch (error) {
    if (!(error instanceof GpuError)) throw error;
    return { operator, shape, skipped: error.message };
  }
  const { flops, bytes } = recorded.program.cost;
  if (flops + 4 * bytes < leastWork * recorded.times) {
    recorded.dispose();
    return undefined;
  }
  return checkedBench(gpu, bench, recorded, seconds, calibration);
}

function peerRow(suite: string, outcome: PeerOutcome): PeerRow {
  const { operator, shape, name } = outcome;
  if ('missing' in outcome) return { suite, operator, shape, name, missing: outcome.missing };
  const { medianMs, flops, error } = outcome;
  return { suite, operator, shape, name, ms: medianMs, tflops: flops / medianMs / 1e9, error };
}
