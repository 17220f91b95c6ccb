/**
 * `npm run bench [-- FILTER… --seconds S --list --json]`: every operator checked, then timed.
 *
 * A FILTER is a section (`gemm`), a kernel (`layer_norm_backward`), or a part of "section: operator shape" (`sinkhorn`,
 * `peers`). Exit code: 0 all checks held, 1 a case was refused, 2 wrong usage, 3 no GPU.
 */

import { availableParallelism, loadavg } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { GpuError, UsageError, WebdinoError } from '../src/errors.js';
import type { Gpu } from '../src/gpu/device.js';
import { openGpu } from '../src/node.js';
import { Calibration, CALIBRATION_WORK } from './calibration.js';
import {
  type BenchCase,
  type BenchSection,
  checkedBench,
  type KernelTime,
  type Outcome,
  peerBench,
  type PeerOutcome,
  type RecordedCase,
} from './checked_bench.js';
import { SECTIONS } from './sections.js';

interface Arguments {
  readonly filters: readonly string[];
  readonly seconds: number;
  readonly list: boolean;
  readonly json: boolean;
}

interface SectionReport {
  readonly name: string;
  readonly question: string;
  readonly calibrationMs: { before: number; after: number };
  readonly cases: Outcome[];
  readonly peers: PeerOutcome[];
}

function parseArguments(): Arguments {
  const command = new Command('bench')
    .usage('[FILTER…] [options]')
    .description('Checks every operator against its oracle, then times it.')
    .argument(
      '[FILTER...]',
      'a section, a kernel, or a part of an operator: gemm, layer_norm_backward, sinkhorn, peers',
    )
    .option(
      '--seconds <S>',
      'measure each case for at least this long, and at least 5 samples',
      (text) => {
        const seconds = Number(text);
        if (!(seconds > 0)) throw new InvalidArgumentError('Give a positive number of seconds.');
        return seconds;
      },
      1,
    )
    .option('--list', 'name the cases and their kernels; time nothing', false)
    .option('--json', 'one JSON document on standard output instead of tables', false)
    .exitOverride()
    .parse();
  const options = command.opts<{ seconds: number; list: boolean; json: boolean }>();
  return { filters: command.args, ...options };
}

// --- Tables ------------------------------------------------------------------------------------------------------------

function figure(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value) || value === 0) return '-';
  if (value >= 100) return value.toFixed(0);
  if (value < 0.001) return value.toExponential(1);
  return value.toPrecision(3);
}

const HEADINGS = ['wall ms', 'gpu ms', 'GFLOP/s', 'GB/s', 'error'];

function row(name: string, shape: string, figures: readonly string[]): string {
  const columns = figures.map((text) => text.padStart(9)).join('');
  return `  ${name.padEnd(46)} ${shape.padEnd(38)}${columns}`.trimEnd();
}

function rates(timeMs: number, flops: number, bytes: number): string[] {
  return [figure(flops / timeMs / 1e6), figure(bytes / timeMs / 1e6)];
}

function kernelRow({ kernel, dispatches, timeMs, flops, bytes }: KernelTime): string {
  return row(`    ${kernel}`, dispatches === 1 ? '' : `${dispatches} dispatches`, [
    '',
    figure(timeMs),
    ...rates(timeMs, flops, bytes),
  ]);
}

function caseLines(outcome: Outcome): string[] {
  const { operator, shape } = outcome;
  if ('refused' in outcome) return [row(operator, shape, ['REFUSED']), `    ${outcome.refused}`];
  if ('skipped' in outcome) return [row(operator, shape, ['skipped']), `    ${outcome.skipped}`];
  const { wallMs, gpuMs, flops, bytes, error, kernels, facts } = outcome;
  const lines = [
    row(operator, shape, [figure(wallMs), figure(gpuMs), ...rates(wallMs, flops, bytes), error.toExponential(0)]),
  ];
  const named = Object.entries(facts).map(([name, value]) => `${name} ${figure(value)}`);
  if (named.length > 0) lines.push(`    ${named.join(', ')}`);
  if (kernels.length > 1) lines.push(...kernels.slice(0, 16).map(kernelRow));
  return lines;
}

function peerLine(outcome: PeerOutcome): string {
  const { shape, name } = outcome;
  if ('missing' in outcome) return row(`  ${name}`, shape, ['no figure']) + `: ${outcome.missing}`;
  const { medianMs, flops, error } = outcome;
  return row(`  ${name}`, shape, [figure(medianMs), '', figure(flops / medianMs / 1e6), '', error.toExponential(0)]);
}

// --- Running -----------------------------------------------------------------------------------------------------------

class BenchRun {
  private readonly matched = new Set<string>();
  readonly reports: SectionReport[] = [];

  constructor(
    private readonly gpu: Gpu,
    private readonly args: Arguments,
  ) {}

  private print(line: string): void {
    // With --json, standard output is the document; the tables show that something goes on.
    if (this.args.json) console.error(line);
    else console.log(line);
  }

  /** Whether a filter wants this text or one of these kernels; `fallback` where there is no filter. */
  private wants(text: string, kernels: readonly string[], fallback = true): boolean {
    const { filters } = this.args;
    const hits = filters.filter((filter) => text.includes(filter) || kernels.includes(filter));
    for (const hit of hits) this.matched.add(hit);
    return filters.length === 0 ? fallback : hits.length > 0;
  }

  get unmatched(): string[] {
    return this.args.filters.filter((filter) => !this.matched.has(filter));
  }

  /** Records a case if the filters want it, by its text or, unless it runs on request only, by its kernels. */
  private open(section: string, bench: BenchCase): RecordedCase | { readonly skipped: string } | undefined {
    const { operator, shape, onRequest = false } = bench;
    if (onRequest && !this.wants(`${operator} ${shape}`, [], this.args.list)) return undefined;
    const text = `${section}: ${operator} ${shape}`;
    let recorded: RecordedCase;
    try {
      recorded = bench.record(this.gpu);
    } catch (error) {
      // A limit of the adapter, which the message names.
      if (!(error instanceof GpuError)) throw error;
      return onRequest || this.wants(text, []) ? { skipped: error.message } : undefined;
    }
    if (onRequest || this.wants(text, [...recorded.program.kernelCounts.keys()])) return recorded;
    recorded.dispose();
    return undefined;
  }

  async section(section: BenchSection, calibration: Calibration | undefined): Promise<void> {
    const { gpu, args } = this;
    const { name, question } = section;
    const report: SectionReport = { name, question, calibrationMs: { before: 0, after: 0 }, cases: [], peers: [] };
    let begun = false;
    const begin = async (): Promise<void> => {
      if (begun) return;
      begun = true;
      this.print(`\n${name}: ${question}`);
      if (!calibration) return;
      report.calibrationMs.before = await calibration.measure(args.seconds / 2);
      this.print(row('operator', 'shape', HEADINGS));
    };
    for (const bench of section.cases(gpu.capabilities)) {
      const { operator, shape } = bench;
      const recorded = this.open(name, bench);
      if (!recorded) continue;
      await begin();
      if ('skipped' in recorded) {
        const outcome = { operator, shape, skipped: recorded.skipped };
        report.cases.push(outcome);
        for (const line of caseLines(outcome)) this.print(line);
      } else if (calibration) {
        const outcome = await checkedBench(gpu, bench, recorded, args.seconds, calibration);
        report.cases.push(outcome);
        for (const line of caseLines(outcome)) this.print(line);
      } else {
        const kernels = [...recorded.program.kernelCounts.keys()];
        recorded.dispose();
        this.print(`  ${operator}, ${shape}${bench.onRequest ? ' (when named)' : ''}: ${kernels.join(' ')}`);
      }
    }
    for (const group of section.peers?.(gpu, gpu.capabilities.software) ?? []) {
      if (!this.wants(`${name}: peers, ${group.operator} ${group.shape}`, [])) continue;
      await begin();
      this.print(`  peers: ${group.operator}, ${group.shape}`);
      for (const peer of group.peers) {
        if (!calibration) {
          this.print(`    ${peer.name}`);
          continue;
        }
        const outcome = await peerBench(group, peer, args.seconds);
        report.peers.push(outcome);
        this.print(peerLine(outcome));
      }
    }
    if (!begun || !calibration) return;
    const { before } = report.calibrationMs;
    const after = await calibration.measure(args.seconds / 2);
    report.calibrationMs.after = after;
    const drift = 100 * (after / before - 1);
    const noisy = Math.abs(drift) > 20 ? ': this machine was not quiet, take the figures as rough' : '';
    this.print(
      `  ${CALIBRATION_WORK}: ${figure(before)} ms before, ${figure(after)} ms after (${drift.toFixed(0)} %)${noisy}`,
    );
    this.reports.push(report);
  }
}

async function main(): Promise<number> {
  const args = parseArguments();
  const gpu = await openGpu();
  try {
    const adapter = gpu.capabilities.description;
    const machine = {
      adapter,
      processors: availableParallelism(),
      load: loadavg()[0],
      node: process.version,
      date: new Date().toISOString(),
    };
    const say = args.json ? console.error : console.log;
    say(`${adapter}; ${machine.processors} processors, load ${machine.load.toFixed(1)}; Node ${machine.node}`);
    if (!gpu.capabilities.timestampQuery) say('no timestamp-query here: wall clock only');
    const calibration = args.list ? undefined : await Calibration.open(gpu);
    const run = new BenchRun(gpu, args);
    for (const section of SECTIONS) await run.section(section, calibration);
    calibration?.close();
    const refused = run.reports.flatMap((report) => report.cases).filter((outcome) => 'refused' in outcome);
    if (args.json) console.log(JSON.stringify({ ...machine, sections: run.reports }, null, 2));
    if (run.unmatched.length > 0) {
      throw new UsageError(`no case matches ${run.unmatched.join(', ')}; --list shows what there is`);
    }
    for (const { operator, shape, refused: reason } of refused)
      console.error(`refused: ${operator}, ${shape}: ${reason}`);
    return refused.length > 0 ? 1 : 0;
  } finally {
    gpu.close();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof WebdinoError) console.error(`bench: ${error.message}`);
  else if (!(error instanceof Error && 'exitCode' in error)) console.error(error);
  process.exitCode = error instanceof WebdinoError ? error.exitCode : exitCodeOf(error);
}

/** Commander's own errors are printed already; --help is one of them and no failure. */
function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error && 'exitCode' in error)) return 1;
  return error.exitCode === 0 ? 0 : 2;
}
