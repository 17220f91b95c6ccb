/**
 * What this adapter can do at best, measured in the same run as everything that is compared with it: bytes moved by a
 * plain copy, and operations of the best matrix product in float32 and, where there are matrix units, in halves.
 */

import * as copyRows from '../kernels/copy_rows.js';
import { matrixConfig } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { GpuError } from '../src/errors.js';
import type { Calibration } from './calibration.js';
import { type BenchCase, checkedBench, type Measured, operatorCase } from './checked_bench.js';
import { compareSamples } from './comparison.js';
import { squareProducts } from './gemm.bench.js';

export interface Ceiling {
  /** What was measured, for people. */
  readonly work: string;
  /** Bytes (read plus written) or operations a second. */
  readonly perSecond: number;
  readonly ms: number;
}

export interface Ceilings {
  readonly copy: Ceiling;
  /** Float32 arithmetic, also of values that are stored as halves. */
  readonly gemm: Ceiling;
  /** Matrix units: halves summed in float32. */
  readonly gemmOnMatrices?: Ceiling;
}

/** Larger than the caches, so that the memory is measured. */
const COPIED_BYTES = { small: 2 ** 26, full: 2 ** 28 };
const PRODUCT_SIZE = { small: 512, full: 4096 };
const COLUMNS = 1024;

function copyCase(bytes: number): BenchCase {
  const rows = Math.max(Math.floor(bytes / (4 * COLUMNS)), 1);
  return operatorCase('copy', `${rows} × ${COLUMNS}`, (program) => {
    const source = program.input('source', [rows, COLUMNS]);
    const data = new Float32Array(source.elements).map((_, i) => (i % 8191) - 4095);
    return {
      prepare: () => program.write(source, data),
      record: () => {
        const copied = program.intermediate('copied', [rows, COLUMNS]);
        program.dispatch(copyRows.plan({ rows, columns: COLUMNS, from: 0, to: 0 }), [source, copied]);
        return [copied];
      },
      check: ([copied]) => [compareSamples('copy', copied, (place) => data[place], 0)],
    };
  });
}

/** Whether a kernel multiplies on matrix units, by its name. */
export function usesMatrices(kernels: readonly string[]): boolean {
  return kernels.some((kernel) => /(^|_)mma(_|$)/.test(kernel));
}

/** Milliseconds of one application: by timestamps where the adapter has them. */
export function millisecondsOf({ gpuMs, wallMs }: Measured): number {
  return gpuMs || wallMs;
}

/**
 * Measures all ceilings.
 * @param seconds for each case
 * @param small shapes that a CPU does in a moment
 * @throws GpuError when a result is wrong: then there is nothing to compare with
 */
export async function measureCeilings(
  gpu: Gpu,
  calibration: Calibration,
  seconds: number,
  small: boolean,
): Promise<Ceilings> {
  const measure = async (bench: BenchCase): Promise<Measured> => {
    const outcome = await checkedBench(gpu, bench, bench.record(gpu), seconds, calibration);
    if (!('refused' in outcome)) return outcome;
    throw new GpuError(`${bench.operator} ${bench.shape} is wrong on this adapter: ${outcome.refused}`);
  };
  const size = small ? 'small' : 'full';
  const copy = await measure(copyCase(Math.min(COPIED_BYTES[size], gpu.capabilities.maxBindingSizeBytes)));
  const best = async (operands: 'f32' | 'f16'): Promise<Ceiling | undefined> => {
    let ceiling: Ceiling | undefined;
    for (const bench of squareProducts(PRODUCT_SIZE[size], operands)) {
      const outcome = await measure(bench);
      if (operands === 'f16' && !usesMatrices(outcome.kernelNames)) continue;
      const ms = millisecondsOf(outcome);
      if (!ceiling || ms < ceiling.ms) {
        ceiling = { work: `${bench.operator}, ${bench.shape}`, perSecond: (1000 * outcome.flops) / ms, ms };
      }
    }
    return ceiling;
  };
  const copyMs = millisecondsOf(copy);
  return {
    copy: {
      work: `copy of ${Math.round(copy.bytes / 2 ** 21)} MiB`,
      perSecond: (1000 * copy.bytes) / copyMs,
      ms: copyMs,
    },
    gemm: (await best('f32'))!,
    gemmOnMatrices: matrixConfig(gpu.capabilities) ? await best('f16') : undefined,
  };
}
