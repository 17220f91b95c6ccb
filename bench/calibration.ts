/**
 * A fixed product, timed around every section. Machines are shared, warm up and throttle: figures from between two
 * calibrations that differ say little, and figures of two days are compared by their ratio to it.
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

export const CALIBRATION_WORK = `gemm NN ${SIZE} × ${SIZE} × ${SIZE}`;

export class Calibration {
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
    const { medianMs } = await time('calibration', seconds, async () => {
      this.program.run();
      await this.gpu.device.queue.onSubmittedWorkDone();
    });
    return medianMs / this.times;
  }

  close(): void {
    this.program.dispose();
  }
}
