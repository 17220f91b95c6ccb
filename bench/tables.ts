/** What `webdino bench` prints for people: one line a case, numbers with their units. */

import type { Ceilings } from './ceilings.js';
import type { FeatureOutcome } from './features_suite.js';
import type { StepKernel, StepOutcome } from './step_suite.js';
import { type BenchRow, isMeasured, type PeerRow } from './suites.js';

/** Three significant figures, without exponents where people count. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** Operations a second. */
export function operationRate(perSecond: number): string {
  return perSecond >= 1e12 ? `${figure(perSecond / 1e12)} TFLOP/s` : `${figure(perSecond / 1e9)} GFLOP/s`;
}

/** Bytes a second. */
export function byteRate(perSecond: number): string {
  return perSecond >= 1e12 ? `${figure(perSecond / 1e12)} TB/s` : `${figure(perSecond / 1e9)} GB/s`;
}

/** The rate that a row is limited by. */
export function limitingRate(row: {
  readonly bound: 'compute' | 'memory';
  readonly tflops: number;
  readonly gigabytesPerSecond: number;
}): string {
  return row.bound === 'compute' ? operationRate(row.tflops * 1e12) : byteRate(row.gigabytesPerSecond * 1e9);
}

const HEADINGS = ['ms', 'rate', 'of ceiling', 'error'];
const WIDTHS = [10, 15, 11, 9];

function line(name: string, shape: string, columns: readonly string[]): string {
  const cells = columns.map((text, i) => text.padStart(WIDTHS[i])).join('');
  return `  ${name.padEnd(44)} ${shape.padEnd(34)}${cells}`.trimEnd();
}

/** @param columns whether lines of operators follow */
export function heading(name: string, question: string, columns: boolean): string {
  return `\n${line(`${name}: ${question}`, '', columns ? HEADINGS : [])}`;
}

export function ceilingLines({ copy, gemm, gemmOnMatrices }: Ceilings): string[] {
  const lines = [
    `ceilings: ${byteRate(copy.perSecond)} (${copy.work})`,
    `          ${operationRate(gemm.perSecond)} in float32 (${gemm.work})`,
  ];
  if (gemmOnMatrices)
    lines.push(`          ${operationRate(gemmOnMatrices.perSecond)} on matrix units (${gemmOnMatrices.work})`);
  return lines;
}

export function rowLine(row: BenchRow): string {
  const { operator, shape } = row;
  if (!isMeasured(row)) {
    const why = row.refused ? `REFUSED: ${row.refused}` : `skipped: ${row.skipped}`;
    return `${line(operator, shape, [])}  ${why}`;
  }
  const drift =
    row.calibration && Math.abs(row.calibration - 1) > 0.2 ? `  machine not quiet (${figure(row.calibration)})` : '';
  const columns = [figure(row.ms), limitingRate(row), `${figure(row.percentOfCeiling)} %`, row.error.toExponential(0)];
  return line(operator, shape, columns) + drift;
}

export function peerLine({ name, shape, ms, tflops, error, missing }: PeerRow): string {
  if (ms === undefined || tflops === undefined) return `${line(`  ${name}`, shape, [])}  ${missing}`;
  return line(`  ${name}`, shape, [figure(ms), operationRate(tflops * 1e12), '', error?.toExponential(0) ?? '']);
}

function kernelLine({ kernel, dispatches, ms, percent, tflops = 0, gigabytesPerSecond = 0 }: StepKernel): string {
  const columns = [`${dispatches}`.padStart(11)];
  if (ms !== undefined && percent !== undefined) {
    columns.push(figure(ms).padStart(10), `${percent.toFixed(1)} %`.padStart(9));
    columns.push(operationRate(tflops * 1e12).padStart(16), byteRate(gigabytesPerSecond * 1e9).padStart(13));
  }
  return `    ${kernel.padEnd(34)}${columns.join('')}`;
}

/** Bytes as people say them. */
function gibibytes(bytes: number): string {
  return bytes >= 2 ** 30 ? `${figure(bytes / 2 ** 30)} GiB` : `${figure(bytes / 2 ** 20)} MiB`;
}

export function stepLines(step: StepOutcome): string[] {
  const { arch, patch, batch, global, local, nLocal, prototypes, dropPath, dtype, plain } = step.settings;
  const lines = [
    `  ${arch}/${patch}, batch ${batch}, 2 × ${global} px + ${nLocal} × ${local} px, ${prototypes} prototypes, drop path ${dropPath}, ${dtype}${plain ? ', plain' : ''}`,
  ];
  if ('refused' in step) return [...lines, `  REFUSED: ${step.refused}`];
  if ('msPerStep' in step) {
    const { msPerStep, imagesPerSecond, tflops, error } = step;
    lines.push(
      `  ${figure(msPerStep)} ms a step, ${figure(imagesPerSecond)} images/s, ${operationRate(tflops * 1e12)}, error ${error.toExponential(0)}`,
    );
  }
  lines.push(
    `  ${gibibytes(step.peakBytes)} at the peak; ${step.dispatches} dispatches, ${figure(step.flops / 1e9)} GFLOP, ${figure(step.bytes / 1e9)} GB`,
  );
  if ('dryRun' in step && step.liftedBindingBytes !== undefined) {
    lines.push(`  counted with bindings of up to ${gibibytes(step.liftedBindingBytes)}, more than this adapter has`);
  }
  const timed = step.kernels.some(({ ms }) => ms !== undefined);
  const columns = ['dispatches'.padStart(11)];
  if (timed) columns.push('ms'.padStart(10), 'of step'.padStart(9));
  lines.push(`    ${'kernel'.padEnd(34)}${columns.join('')}`, ...step.kernels.map(kernelLine));
  return lines;
}

export function featureLines(features: FeatureOutcome): string[] {
  const { arch, patch, size, batch, dtype } = features.settings;
  const what = `  ${arch}/${patch}, ${size} px, batch ${batch}, ${dtype}`;
  if ('refused' in features) return [`${what}: REFUSED: ${features.refused}`];
  const { imagesPerSecond, msPerBatch, error } = features;
  return [
    `${what}: ${figure(imagesPerSecond)} images/s (${figure(msPerBatch)} ms a batch), error ${error.toExponential(0)}`,
  ];
}
