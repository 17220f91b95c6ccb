/**
 * How fast is a training step: everything from pixels to the teacher's average, for presets of `webdino train`. It is
 * timed with learning rate 0 and the teacher held still, so that each run does the same work on the same weights; the
 * gradient is checked by moving the weights along it and watching the loss.
 */

import { CounterRandom } from '../src/data/random.js';
import { initializeStore } from '../src/dinov2/initialize.js';
import { collateMasks } from '../src/dinov2/masking.js';
import { type StepInput, type StepLog, SslTrainer } from '../src/dinov2/ssl.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Gpu } from '../src/gpu/device.js';
import { loadConfig } from '../src/train/config.js';
import { maskSettings, sslConfig } from '../src/train/ssl_config.js';
import type { BenchCase, BenchSection, RecordedCase } from './checked_bench.js';
import type { Comparison } from './comparison.js';

const SEED = 11;

function recordStep(gpu: Gpu, preset: string, set: readonly string[]): RecordedCase {
  // Without stochastic depth's draws two runs of a step differ in nothing but their weights.
  const resolved = loadConfig({ preset, set: [...set, 'student.drop_path_rate=0'] });
  const config = sslConfig(resolved);
  const trainer = new SslTrainer(gpu, config);
  let input: StepInput;
  const objective = (log: StepLog): number => {
    const { dinoWeight, ibotWeight } = config;
    // The log shows KoLeo and iBOT by halves, as the official code does.
    return dinoWeight * (log.dinoLocalLoss + log.dinoGlobalLoss) + 2 * log.koleoLoss + 2 * ibotWeight * log.ibotLoss;
  };
  return {
    program: trainer.program,
    times: 1,
    inPlace: true,
    results: [],
    prepare: async () => {
      const { layerScale } = config.vit;
      await initializeStore(gpu, trainer.student, { seed: SEED, layerScale });
      await initializeStore(gpu, trainer.teacher, { seed: SEED + 1, layerScale });
      const { batch, localCrops, globalSize, localSize } = config;
      const crops = (count: number, side: number): Uint8Array => {
        const bytes = new Uint8Array(count * side * side * 3);
        for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + (i >> 7) * 11 + (i >> 3)) % 256;
        return bytes;
      };
      input = {
        globalCrops: crops(2 * batch, globalSize),
        localCrops: crops(localCrops * batch, localSize),
        masks: collateMasks(maskSettings(resolved), new CounterRandom(SEED)),
        learningRate: 0,
        lastLayerLearningRate: 0,
        weightDecay: 0,
        teacherMomentum: 1,
        teacherTemperature: 0.07,
        clipGrad: 0,
        step: 0,
        seed: SEED,
      };
    },
    run: () => trainer.run(input),
    check: async () => {
      const before = await trainer.log();
      const weights = await trainer.student.readAll();
      const gradients = await trainer.gradients.readAll();
      let squares = 0;
      for (const gradient of gradients.values()) for (const g of gradient) squares += g * g;
      const norm = Math.sqrt(squares);
      // Large against float32's rounding of the loss, small against its curvature.
      const h = 2e-3;
      const lossAt = async (step: number): Promise<number> => {
        const moved = [...weights].map(([name, w]): [string, Float32Array] => {
          const gradient = gradients.get(name)!;
          return [name, w.map((v, i) => v + (step / norm) * gradient[i])];
        });
        await trainer.student.writeAll(new Map(moved));
        trainer.run(input);
        return objective(await trainer.log());
      };
      const slope = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
      await trainer.student.writeAll(weights);
      trainer.run(input);
      const after = await trainer.log();
      const comparisons: Comparison[] = [
        { what: 'slope of the loss along its gradient', error: Math.abs(slope - norm) / norm, bound: 0.03 },
        { what: 'loss of the same step again', error: Math.abs(after.totalLoss - before.totalLoss), bound: 0 },
        { what: 'gradients that are not finite', error: Number(before.skipped), bound: 0 },
      ];
      return comparisons;
    },
    facts: (wallMs) => {
      const { dispatches, flops, bytes, arenaBytes, unsharedBytes } = trainer.program.cost;
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
