/**
 * A fixed product, timed around every timing. Machines are shared, warm up and throttle: figures from between two
 * calibrations that differ say little, and figures of two days are compared by their ratio to it. A GPU's clock falls
 * whenever it idles (compiles, checks on the CPU) and needs up to half a second of work to rise again, which
 * repetitions back to back do not reveal; so hardware is put under load before anything is timed.
 */

import * as gemm from '../kernels/gemm.js';
import type { Gpu } from '../src/gpu/device.js';
import { Program } from '../src/gpu/program.js';
import { noise } from '../test/fixture.js';
import { GpuError } from '../src/errors.js';
import { time } from './checked_bench.js';
import { compareSamples } from './comparison.js';

const SIZE = 256;

/** Products a run: one is lost in the latency of a submit on a GPU, and enough for a CPU. */
const TIMES = { software: 1, gpu: 64 };

/** Load before a timing on hardware: at least, and at most where the clock does not come back to its best. */
const LOAD_MS = { least: 500, most: 3000 };

/** The clock is up when the product takes at most this many times its best. */
const NEAR_BEST = 1.15;

const PROBES = 5;

export const CALIBRATION_WORK = `gemm NN ${SIZE} × ${SIZE} × ${SIZE}`;

/** Milliseconds of the fixed product before and after a timing. */
export interface Calibrated {
  readonly before: number;
  readonly after: number;
}

export class Calibration {
  private best = Number.POSITIVE_INFINITY;

  private constructor(
    private readonly gpu: Gpu,
    private readonly program: Program,
    private readonly times: number,
  ) {}

  /** Compiles and checks the product. Throws GpuError when this adapter gets it wrong. */
  static async open(gpu: Gpu): Promise<Calibration> {
    const program = new Program(gpu, 'calibration');
    const [a, b] = [program.input('a', [SIZE, SIZE]), program.input('b', [SIZE, SIZE])];
    const [left, right] = [noise(SIZE * SIZE, 1), noise(SIZE * SIZE, 2)];
    program.write(a, left);
    program.write(b, right);
    const times = gpu.capabilities.software ? TIMES.software : TIMES.gpu;
    let out = a;
    for (let i = 0; i < times; i++) {
      out = program.intermediate('product', [SIZE, SIZE]);
      program.dispatch(gemm.plan({ layout: 'NN', M: SIZE, N: SIZE, K: SIZE }, gpu.capabilities), [a, b, a, a, a, out]);
    }
    program.keep(out);
    await program.compile();
    program.run();
    const { error, bound } = compareSamples(CALIBRATION_WORK, await program.read(out), (place) => {
      const [m, n] = [Math.floor(place / SIZE), place % SIZE];
      let sum = 0;
      for (let k = 0; k < SIZE; k++) sum += left[m * SIZE + k] * right[k * SIZE + n];
      return sum;
    });
    if (!(error <= bound))
      throw new GpuError(`${CALIBRATION_WORK} is wrong on this adapter (error ${error}): nothing can be timed`);
    return new Calibration(gpu, program, times);
  }

  /** Milliseconds of one product now. */
  async measure(seconds: number): Promise<number> {
    const { medianMs } = await time('calibration', seconds, () => this.runOnce());
    return medianMs / this.times;
  }

  /** Milliseconds of one product now, from a few runs: by timestamps where there are any, since they follow the clock. */
  async probe(): Promise<number> {
    const samples: number[] = [];
    for (let i = 0; i < PROBES; i++) {
      const begin = performance.now();
      if (this.gpu.capabilities.timestampQuery) {
        const entries = await this.program.trace();
        samples.push(entries.reduce((sum, { timeMs }) => sum + timeMs, 0) / this.times);
      } else {
        await this.runOnce();
        samples.push((performance.now() - begin) / this.times);
      }
    }
    const ms = samples.sort((a, b) => a - b)[PROBES >> 1];
    this.best = Math.min(this.best, ms);
    return ms;
  }

  /** Brings the clock of a GPU up; to be followed by the timing without a pause. Returns the product's time then. */
  async warm(): Promise<number> {
    if (this.gpu.capabilities.software) return this.probe();
    const begin = performance.now();
    let ms: number;
    do {
      const from = performance.now();
      while (performance.now() - from < LOAD_MS.least) await this.runOnce();
      ms = await this.probe();
    } while (ms > NEAR_BEST * this.best && performance.now() - begin < LOAD_MS.most);
    return ms;
  }

  private async runOnce(): Promise<void> {
    this.program.run();
    await this.gpu.device.queue.onSubmittedWorkDone();
  }

  close(): void {
    this.program.dispose();
  }
}
