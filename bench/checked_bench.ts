/**
 * Timing that refuses to print what it has not checked. A broken pipeline "runs" in no time and throws nothing, so every
 * case is run once and compared with a float64 oracle before it is timed, and its result must have the same bits after.
 *
 * A case is a recorded program that does its operator several times, so that the latency of a submit counts little. The
 * wall clock is package `benchmark`'s: a deferred cycle is one run of the program and the wait for the GPU. Beside it
 * stands the sum of the timestamps of all dispatches, where the adapter has them. Rates are by the wall clock. The inputs
 * of a small case stay in the caches: its GB/s can pass those of the memory.
 */

import Benchmark from 'benchmark';
import { GpuError } from '../src/errors.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { Program, type TraceEntry } from '../src/gpu/program.js';
import type { Tensor, TypedData } from '../src/gpu/tensor.js';
import type { Calibrated, Calibration } from './calibration.js';
import type { Comparison } from './comparison.js';

/** The measurements of `benchmark` are repeated at least this often, whatever the time it was given. */
const MIN_SAMPLES = 5;

/** Runs with timestamps, at least. */
const MIN_TRACES = 3;

/** Ends the name of a case that is another one and its backward pass: the difference of the two is the latter alone. */
export const WITH_BACKWARD = ' + backward';

/** One question: a file of this folder. */
export interface BenchSection {
  /** The file's name without `.bench.ts`. */
  readonly name: string;
  readonly question: string;
  /** Shapes may differ between adapters: what takes a GPU a millisecond takes a CPU a second. */
  readonly cases: (capabilities: Capabilities) => readonly BenchCase[];
  /** What else one could use, timed in the same run. @param small shapes that a CPU does in a moment */
  readonly peers?: (gpu: Gpu, small: boolean) => readonly PeerGroup[];
}

export interface BenchCase {
  readonly operator: string;
  readonly shape: string;
  /** Run only where a filter names it: needs a large adapter or long. */
  readonly onRequest?: boolean;
  /** Records; compiles and runs nothing. */
  readonly record: (gpu: Gpu) => RecordedCase;
}

export interface RecordedCase {
  readonly program: Program;
  /** How often one run does the operator. */
  readonly times: number;
  /** Writes what the program reads, before the first run. */
  readonly prepare: () => Promise<void>;
  /** Queues one run. */
  readonly run: () => void;
  /** What the check sees after the first run. */
  readonly results: readonly Tensor[];
  readonly check: (results: readonly TypedData[]) => Promise<readonly Comparison[]> | readonly Comparison[];
  /** Whether a run changes the state that the next one starts from, so that no second run has the bits of the first. */
  readonly inPlace: boolean;
  /** More to say about a run that takes this long. */
  readonly facts?: (wallMs: number) => Readonly<Record<string, number>>;
  readonly dispose: () => void;
}

/** An operator as `operatorCase` takes it. */
export interface OperatorRecording {
  /** Writes the inputs. Data are made here and not before, so that recording alone stays cheap. */
  readonly prepare: () => Promise<void> | void;
  /** Records the operator once more and returns the results to be checked. */
  readonly record: () => readonly Tensor[];
  /** @param times how often the operator has run: of consequence to those that work in place */
  readonly check: (results: readonly TypedData[], times: number) => readonly Comparison[];
  readonly inPlace?: boolean;
  readonly dispose?: () => void;
}

/** FLOPs (a byte counted as four) that make one run long against the latency of a submit, and the most repetitions. */
const ENOUGH_WORK = { software: 2e7, gpu: 2e10 };
const MOST_TIMES = { software: 8, gpu: 64 };

/** A case that records its operator as often as one run needs to be long enough; the last one's results are checked. */
export function operatorCase(
  operator: string,
  shape: string,
  open: (program: Program) => OperatorRecording,
): BenchCase {
  return {
    operator,
    shape,
    record: (gpu) => {
      const program = new Program(gpu, `bench ${operator}`);
      const recording = open(program);
      let results = recording.record();
      const { flops, bytes } = program.cost;
      const kind = gpu.capabilities.software ? 'software' : 'gpu';
      const times = Math.min(Math.max(Math.ceil(ENOUGH_WORK[kind] / (flops + 4 * bytes)), 1), MOST_TIMES[kind]);
      for (let i = 1; i < times; i++) results = recording.record();
      for (const tensor of results) if (tensor.kind === 'intermediate') program.keep(tensor);
      return {
        program,
        times,
        prepare: async () => recording.prepare(),
        run: () => program.run(),
        results,
        check: (data) => recording.check(data, times),
        inPlace: recording.inPlace === true,
        dispose: () => {
          program.dispose();
          recording.dispose?.();
        },
      };
    },
  };
}

/** What all dispatches of one kernel take in one application of the operator, by timestamps. */
export interface KernelTime {
  readonly kernel: string;
  readonly dispatches: number;
  readonly timeMs: number;
  readonly flops: number;
  readonly bytes: number;
}

export interface Measured {
  readonly operator: string;
  readonly shape: string;
  /** Of one application by the wall clock: the median. */
  readonly wallMs: number;
  /** Quartiles of the same. */
  readonly quartilesMs: readonly [number, number];
  readonly samples: number;
  /** Applications a run. */
  readonly times: number;
  /** Sum of the timestamps, the median run's; absent without `timestamp-query`. */
  readonly gpuMs?: number;
  /** The fixed product around the timing, where a calibration was given. */
  readonly calibrationMs?: Calibrated;
  readonly flops: number;
  readonly bytes: number;
  /** The largest relative error of all comparisons. */
  readonly error: number;
  /** The kernels that it dispatches. */
  readonly kernelNames: readonly string[];
  /** Their times; empty without `timestamp-query`. */
  readonly kernels: readonly KernelTime[];
  readonly facts: Readonly<Record<string, number>>;
}

/** A case without a number: its result was wrong or changed, or the GPU reported an error. */
export interface Refused {
  readonly operator: string;
  readonly shape: string;
  readonly refused: string;
}

/** A case that this adapter has no room for. */
export interface Skipped {
  readonly operator: string;
  readonly shape: string;
  readonly skipped: string;
}

export type Outcome = Measured | Refused | Skipped;

/** What of the comparisons does not hold, in words; empty when all do. */
export function failures(comparisons: readonly Comparison[]): string {
  if (comparisons.length === 0) return 'nothing was compared';
  return comparisons
    .filter(({ error, bound }) => !(error <= bound))
    .map(({ what, error, bound }) => `${what}: error ${error.toExponential(1)}, bound ${bound.toExponential(1)}`)
    .join('; ');
}

function largestError(comparisons: readonly Comparison[]): number {
  return comparisons.reduce((most, { error }) => Math.max(most, error), 0);
}

function sameBits(a: TypedData, b: TypedData): boolean {
  const bytes = (data: TypedData): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return bytes(a).equals(bytes(b));
}

/**
 * Compiles, checks, times, and checks again. Disposes of the case.
 * @param seconds how long to measure by the wall clock, at least; never fewer than five samples
 * @param calibration brings the clock up before the timing and is measured around it
 * @throws GpuError when the GPU failed: nothing measured after that would mean anything
 */
export async function checkedBench(
  gpu: Gpu,
  bench: BenchCase,
  recorded: RecordedCase,
  seconds: number,
  calibration?: Calibration,
): Promise<Measured | Refused> {
  const { operator, shape } = bench;
  const { program, times, results, inPlace } = recorded;
  const refuse = (refused: string): Refused => ({ operator, shape, refused });
  try {
    await recorded.prepare();
    await program.compile();
    recorded.run();
    await gpu.finish();
    const first = results.length > 0 ? await program.readAll(results) : [];
    const comparisons = await recorded.check(first);
    const failed = failures(comparisons);
    if (failed) return refuse(failed);

    const before = await calibration?.warm();
    const timing = await time(operator, seconds, async () => {
      recorded.run();
      await gpu.device.queue.onSubmittedWorkDone();
    });
    await gpu.finish();
    const traces = gpu.capabilities.timestampQuery ? await tracesOf(program, seconds / 2) : [];
    const after = await calibration?.probe();
    if (!inPlace && results.length > 0) {
      const last = await program.readAll(results);
      if (!last.every((data, i) => sameBits(data, first[i]))) return refuse('the result changed while it was timed');
    }
    const trace = traces.sort((a, b) => totalMs(a) - totalMs(b)).at(traces.length >> 1);
    const wallMs = timing.medianMs / times;
    const { flops, bytes } = program.cost;
    return {
      operator,
      shape,
      wallMs,
      quartilesMs: [timing.quartilesMs[0] / times, timing.quartilesMs[1] / times],
      samples: timing.samples,
      times,
      gpuMs: trace && totalMs(trace) / times,
      calibrationMs: before !== undefined && after !== undefined ? { before, after } : undefined,
      flops: flops / times,
      bytes: bytes / times,
      error: largestError(comparisons),
      kernelNames: [...program.kernelCounts.keys()],
      kernels: trace ? byKernel(trace, times) : [],
      facts: recorded.facts?.(wallMs) ?? {},
    };
  } catch (error) {
    gpu.check();
    if (!(error instanceof GpuError)) throw error;
    return refuse(error.message);
  } finally {
    recorded.dispose();
  }
}

function totalMs(entries: readonly TraceEntry[]): number {
  return entries.reduce((sum, { timeMs }) => sum + timeMs, 0);
}

async function tracesOf(program: Program, seconds: number): Promise<TraceEntry[][]> {
  const traces: TraceEntry[][] = [];
  const end = performance.now() + 1000 * seconds;
  while (traces.length < MIN_TRACES || performance.now() < end) traces.push(await program.trace());
  return traces;
}

/**
 * The kernels of a trace, the longest first.
 * @param times applications of the operator in the trace
 */
export function byKernel(trace: readonly TraceEntry[], times: number): KernelTime[] {
  const kernels = new Map<string, TraceEntry[]>();
  for (const entry of trace) {
    const entries = kernels.get(entry.kernel);
    if (entries) entries.push(entry);
    else kernels.set(entry.kernel, [entry]);
  }
  const each = (entries: readonly TraceEntry[], value: (entry: TraceEntry) => number): number =>
    entries.reduce((sum, entry) => sum + value(entry), 0) / times;
  return [...kernels]
    .map(([kernel, entries]) => ({
      kernel,
      dispatches: entries.length / times,
      timeMs: each(entries, ({ timeMs }) => timeMs),
      flops: each(entries, ({ flops }) => flops),
      bytes: each(entries, ({ bytes }) => bytes),
    }))
    .sort((a, b) => b.timeMs - a.timeMs);
}

// --- The wall clock --------------------------------------------------------------------------------------------------

export interface Timing {
  readonly medianMs: number;
  readonly quartilesMs: readonly [number, number];
  readonly samples: number;
}

/** How long `run` takes until its promise resolves, by package `benchmark`. Rejects as soon as a run does. */
export function time(name: string, seconds: number, run: () => Promise<unknown>): Promise<Timing> {
  return new Promise((resolve, reject) => {
    const bench = new Benchmark(name, {
      defer: true,
      async: true,
      minSamples: MIN_SAMPLES,
      maxTime: seconds,
      fn: (deferred: { resolve(): void }) => {
        // A deferred that is never resolved ends the benchmark: nothing is pending any more.
        run().then(() => deferred.resolve(), reject);
      },
    });
    bench.on('error', () => reject(bench.error));
    bench.on('complete', () => {
      const sorted = bench.stats.sample.map((s) => 1000 * s).sort((a, b) => a - b);
      const at = (share: number): number => {
        const place = share * (sorted.length - 1);
        const below = Math.floor(place);
        const above = Math.min(below + 1, sorted.length - 1);
        return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
      };
      resolve({ medianMs: at(0.5), quartilesMs: [at(0.25), at(0.75)], samples: sorted.length });
    });
    bench.run({ async: true });
  });
}

// --- Peers -----------------------------------------------------------------------------------------------------------

/** Several ways to the same result. */
export interface PeerGroup {
  readonly operator: string;
  readonly shape: string;
  /** Of one run. */
  readonly flops: number;
  readonly check: (result: Float32Array) => readonly Comparison[];
  readonly peers: readonly Peer[];
}

export interface Peer {
  readonly name: string;
  /** @throws where this machine does not have it; the reason is printed instead of a time */
  readonly open: () => Promise<OpenPeer>;
}

export interface OpenPeer {
  /** Does the work once, with everything the name promises. */
  readonly run: () => Promise<unknown>;
  /** The result of the last run. */
  readonly result: () => Promise<Float32Array>;
  readonly close: () => Promise<void> | void;
}

export interface PeerMeasured extends Timing {
  readonly operator: string;
  readonly shape: string;
  readonly name: string;
  readonly flops: number;
  readonly error: number;
}

export interface PeerMissing {
  readonly operator: string;
  readonly shape: string;
  readonly name: string;
  readonly missing: string;
}

export type PeerOutcome = PeerMeasured | PeerMissing;

/** Equality first, then the time. A peer that is absent, fails or is wrong here has no number. */
export async function peerBench(group: PeerGroup, peer: Peer, seconds: number): Promise<PeerOutcome> {
  const { operator, shape, flops } = group;
  const { name } = peer;
  let open: OpenPeer | undefined;
  try {
    open = await peer.open();
    await open.run();
    const comparisons = group.check(await open.result());
    const failed = failures(comparisons);
    if (failed) return { operator, shape, name, missing: `wrong result (${failed})` };
    const timing = await time(name, seconds, open.run);
    return { operator, shape, name, flops, error: largestError(comparisons), ...timing };
  } catch (error) {
    return { operator, shape, name, missing: error instanceof Error ? error.message.split('\n')[0] : String(error) };
  } finally {
    await open?.close();
  }
}
