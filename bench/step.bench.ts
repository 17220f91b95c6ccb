/** How fast is a training step: everything from pixels to the teacher's average, for presets of `webdino train`. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { loadConfig } from '../src/train/config.js';
import type { BenchCase, BenchSection, RecordedCase } from './checked_bench.js';
import { PreparedStep } from './step_case.js';

function recordStep(gpu: Gpu, preset: string, set: readonly string[]): RecordedCase {
  const step = PreparedStep.recorded(gpu, loadConfig({ preset, set }));
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

function stepCase(preset: string, set: readonly string[] = [], onRequest = false): BenchCase {
  const { train, crops } = loadConfig({ preset, set });
  const { global_crops_size: globalSize, local_crops_size: localSize, local_crops_number: locals } = crops;
  return {
    operator: `step of ${preset}`,
    shape: `batch ${train.batch_size_per_gpu}, 2 × ${globalSize} px + ${locals} × ${localSize} px`,
    onRequest,
    record: (gpu) => recordStep(gpu, preset, set),
  };
}

function cases({ software }: Capabilities): BenchCase[] {
  return software
    ? [stepCase('quickstart', ['train.batch_size_per_gpu=8']), stepCase('quickstart', [], true)]
    : [stepCase('quickstart'), stepCase('cifar'), stepCase('vits14_224', [], true)];
}

export const section: BenchSection = { name: 'step', question: 'How fast is a whole training step?', cases };
