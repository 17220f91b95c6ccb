/** How fast is a training step: everything from pixels to the teacher's average, for presets of `webdino train`. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { loadConfig, type ResolvedConfig } from '../src/train/config.js';
import type { BenchCase, BenchSection, RecordedCase } from './checked_bench.js';
import { FUSED_STEP, PLAIN_STEP, PreparedStep, type StepTrainerFactory } from './step_case.js';

function recordStep(gpu: Gpu, factory: StepTrainerFactory, resolved: ResolvedConfig): RecordedCase {
  const step = PreparedStep.recorded(gpu, resolved, factory);
  const { trainer, config } = step;
  return {
    program: trainer.program,
    times: 1,
    inPlace: true,
    results: [],
    prepare: () => step.initialize(gpu),
    run: () => step.run(),
    check: () => step.checkSlope(),
    facts: (wallMs) => {
      const { dispatches, flops, bytes, arenaBytes, unsharedBytes } = trainer.cost;
      return {
        imagesPerSecond: (1000 * config.batch) / wallMs,
        dispatches,
        gflop: flops / 1e9,
        gigabytes: bytes / 1e9,
        arenaMegabytes: arenaBytes / 1e6,
        unsharedMegabytes: unsharedBytes / 1e6,
        gpuMegabytes: trainer.sizeBytes / 1e6,
      };
    },
    dispose: () => trainer.dispose(),
  };
}

interface StepCaseOptions {
  readonly set?: readonly string[];
  readonly onRequest?: boolean;
  /** The step as it is written first, to compare with. */
  readonly plain?: boolean;
}

function stepCase(preset: string, { set = [], onRequest, plain = false }: StepCaseOptions = {}): BenchCase {
  const resolved = loadConfig({ preset, set });
  const { train, crops } = resolved;
  const { global_crops_size: globalSize, local_crops_size: localSize, local_crops_number: locals } = crops;
  return {
    operator: `${plain ? 'plain ' : ''}step of ${preset}`,
    shape: `batch ${train.batch_size_per_gpu}, 2 × ${globalSize} px + ${locals} × ${localSize} px`,
    onRequest,
    record: (gpu) => recordStep(gpu, plain ? PLAIN_STEP : FUSED_STEP, resolved),
  };
}

function cases({ software }: Capabilities): BenchCase[] {
  const small = ['train.batch_size_per_gpu=8'];
  // Stochastic depth, so that dropped sequences are masked in the one and left out in the other.
  const dropping = [...small, 'student.drop_path_rate=0.3'];
  return [
    ...(software
      ? [stepCase('quickstart', { set: small }), stepCase('quickstart', { onRequest: true })]
      : [stepCase('quickstart'), stepCase('cifar'), stepCase('vits14_224', { onRequest: true })]),
    stepCase('quickstart', { set: dropping, plain: true }),
  ];
}

export const section: BenchSection = { name: 'step', question: 'How fast is a whole training step?', cases };
