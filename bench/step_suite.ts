/**
 * `webdino bench step`: one training step of a network of any size, checked, timed, and divided among its kernels.
 *
 * Steps are queued two at a time, as training does, so the wall clock sees what training would. The memory is the most
 * that the step's own buffers took, from a GPU that held nothing before.
 */

import type { StepLog } from '../src/dinov2/ssl.js';
import { Gpu } from '../src/gpu/device.js';
import { GpuError, UsageError } from '../src/errors.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { loadConfig, type ResolvedConfig } from '../src/train/config.js';
import { sslConfig } from '../src/train/ssl_config.js';
import { Calibration } from './calibration.js';
import { byKernel, failures } from './checked_bench.js';
import { FUSED_STEP, PLAIN_STEP, PreparedStep, type StepTrainerFactory } from './step_case.js';

export interface StepSettings {
  /** `vit_small`, `vit_base`, `vit_large`, `vit_giant2` */
  readonly arch: string;
  /** Pixels of a patch's side. */
  readonly patch: number;
  /** Pictures. */
  readonly batch: number;
  /** Pixels of the crops' sides. */
  readonly global: number;
  readonly local: number;
  readonly nLocal: number;
  readonly prototypes: number;
  readonly dropPath: number;
  readonly dtype: 'f32' | 'f16';
  /** The step as it is written first (bench/plain), instead of the one that is trained with. Float32 only. */
  readonly plain?: boolean;
  /** Steps that are timed. */
  readonly steps: number;
}

/** What the seeds' table of targets has, and what a CPU does in a moment. */
export const STEP_DEFAULTS: Readonly<Record<'full' | 'small', StepSettings>> = {
  full: {
    arch: 'vit_small',
    patch: 14,
    batch: 64,
    global: 224,
    local: 98,
    nLocal: 8,
    prototypes: 65536,
    dropPath: 0.3,
    dtype: 'f32',
    steps: 10,
  },
  small: {
    arch: 'vit_small',
    patch: 14,
    batch: 2,
    global: 56,
    local: 28,
    nLocal: 2,
    prototypes: 1024,
    dropPath: 0.3,
    dtype: 'f32',
    steps: 3,
  },
};

/** A share of the step. */
export interface StepKernel {
  readonly kernel: string;
  /** A step. */
  readonly dispatches: number;
  /** Absent without timestamps. */
  readonly ms?: number;
  /** Of the time of all kernels. */
  readonly percent?: number;
  readonly tflops?: number;
  readonly gigabytesPerSecond?: number;
  readonly flops: number;
  readonly bytes: number;
}

interface StepCost {
  readonly settings: StepSettings;
  /** The most that all buffers took at once. */
  readonly peakBytes: number;
  readonly dispatches: number;
  /** Of one step. */
  readonly flops: number;
  readonly bytes: number;
  readonly kernels: readonly StepKernel[];
}

export interface StepMeasured extends StepCost {
  /** Median, wall clock. */
  readonly msPerStep: number;
  /** Pictures, each with all its crops. */
  readonly imagesPerSecond: number;
  readonly tflops: number;
  /** The largest relative error of the checks. */
  readonly error: number;
  /** The calibration product after the timing over before. */
  readonly calibration: number;
}

export type StepOutcome =
  | StepMeasured
  | (StepCost & {
      readonly dryRun: true;
      /** What a binding may hold in the count, where that is more than on this adapter. */
      readonly liftedBindingBytes?: number;
    })
  | { readonly settings: StepSettings; readonly refused: string };

/** @throws UsageError for sizes that no network has */
export function stepConfig(settings: StepSettings): ResolvedConfig {
  const { arch, patch, batch, global, local, nLocal, prototypes, dropPath, dtype } = settings;
  return loadConfig({
    set: [
      // With the recipe's 1e-5 all pictures have the same features at first, where KoLeo's slope is that of a cliff.
      'student.layerscale=1',
      `student.arch=${arch}`,
      `student.patch_size=${patch}`,
      `student.drop_path_rate=${dropPath}`,
      `train.batch_size_per_gpu=${batch}`,
      `train.dtype=${dtype}`,
      `crops.global_crops_size=${global}`,
      `crops.local_crops_size=${local}`,
      `crops.local_crops_number=${nLocal}`,
      `dino.head_n_prototypes=${prototypes}`,
      `ibot.head_n_prototypes=${prototypes}`,
    ],
  });
}

function factoryOf({ plain, dtype }: StepSettings): StepTrainerFactory {
  if (plain && dtype === 'f16') throw new UsageError('the plain step is float32: leave --dtype f16 out');
  return plain ? PLAIN_STEP : FUSED_STEP;
}

/** Bytes of a binding that the plain step is counted with where the adapter has fewer: it holds all logits at once. */
const COUNTED_BINDING_BYTES = 2 ** 31;

function countedCapabilities({ capabilities }: Gpu, { plain = false }: StepSettings): Capabilities {
  if (!plain) return capabilities;
  const { maxBufferSizeBytes, maxBindingSizeBytes } = capabilities;
  return {
    ...capabilities,
    maxBufferSizeBytes: Math.max(maxBufferSizeBytes, COUNTED_BINDING_BYTES),
    maxBindingSizeBytes: Math.max(maxBindingSizeBytes, COUNTED_BINDING_BYTES),
  };
}

/**
 * Counts what a step would take, on a GPU that holds nothing.
 * @param gpu whose capabilities the step is planned for; the plain step also where its tensors exceed the limits
 */
export async function dryStep(gpu: Gpu, settings: StepSettings): Promise<StepOutcome> {
  const capabilities = countedCapabilities(gpu, settings);
  const { maxBindingSizeBytes } = capabilities;
  const lifted = maxBindingSizeBytes > gpu.capabilities.maxBindingSizeBytes ? maxBindingSizeBytes : undefined;
  const dry = Gpu.dry(capabilities, gpu.shaders);
  const trainer = factoryOf(settings)(dry, sslConfig(stepConfig(settings)));
  await trainer.compile();
  const { dispatches, flops, bytes } = trainer.cost;
  const kernels = [...trainer.program.kernelCounts]
    .map(([kernel, counts]) => ({ kernel, ...counts }))
    .sort((a, b) => b.bytes - a.bytes);
  return {
    settings,
    dryRun: true,
    liftedBindingBytes: lifted,
    peakBytes: dry.peakBytes,
    dispatches,
    flops,
    bytes,
    kernels,
  };
}

/**
 * Checks and times a step.
 * @param openFresh opens a GPU that holds nothing yet; it is closed in the end
 */
export async function measureStep(openFresh: () => Promise<Gpu>, settings: StepSettings): Promise<StepOutcome> {
  const factory = factoryOf(settings);
  const resolved = stepConfig(settings);
  const exact = settings.dtype === 'f16' ? await exactStep(openFresh, settings, factory) : undefined;
  const gpu = await openFresh();
  let step: PreparedStep | undefined;
  let calibration: Calibration | undefined;
  try {
    step = await PreparedStep.open(gpu, resolved, factory);
    const { trainer } = step;
    step.run();
    await gpu.finish();
    const { peakBytes } = gpu;
    const comparisons = exact ? await step.checkAgainst(exact) : await step.checkSlope();
    const failed = failures(comparisons);
    if (failed) return { settings, refused: failed };

    calibration = await Calibration.open(gpu);
    const before = await calibration.warm();
    const msPerStep = await timeSteps(gpu, step, settings.steps);
    const traced = gpu.capabilities.timestampQuery ? await trainer.trace() : undefined;
    const after = await calibration.probe();
    gpu.check();

    const { dispatches, flops, bytes } = trainer.cost;
    const times = traced && byKernel(traced, 1);
    const totalMs = times?.reduce((sum, { timeMs }) => sum + timeMs, 0) ?? 0;
    const kernels: StepKernel[] = times
      ? times.map(({ kernel, dispatches: count, timeMs: ms, flops: f, bytes: b }) => ({
          kernel,
          dispatches: count,
          ms,
          percent: (100 * ms) / totalMs,
          tflops: f / ms / 1e9,
          gigabytesPerSecond: b / ms / 1e6,
          flops: f,
          bytes: b,
        }))
      : [...trainer.program.kernelCounts].map(([kernel, counts]) => ({ kernel, ...counts }));
    return {
      settings,
      msPerStep,
      imagesPerSecond: (1000 * settings.batch) / msPerStep,
      peakBytes,
      tflops: flops / msPerStep / 1e9,
      dispatches,
      flops,
      bytes,
      error: comparisons.reduce((most, { error }) => Math.max(most, error), 0),
      calibration: after / before,
      kernels,
    };
  } catch (error) {
    if (!(error instanceof GpuError)) throw error;
    return { settings, refused: error.message };
  } finally {
    calibration?.close();
    step?.trainer.dispose();
    gpu.close();
  }
}

/** The same step in float32, on a GPU of its own so that it does not count as memory. */
async function exactStep(
  openFresh: () => Promise<Gpu>,
  settings: StepSettings,
  factory: StepTrainerFactory,
): Promise<StepLog> {
  const gpu = await openFresh();
  try {
    const step = await PreparedStep.open(gpu, stepConfig({ ...settings, dtype: 'f32' }), factory);
    try {
      return await step.log();
    } finally {
      step.trainer.dispose();
    }
  } finally {
    gpu.close();
  }
}

/** Milliseconds of one step, the median: each one's end after the end of the one before, two under way. */
async function timeSteps(gpu: Gpu, step: PreparedStep, steps: number): Promise<number> {
  const ends = [performance.now()];
  let previous: Promise<unknown> = Promise.resolve();
  for (let i = 0; i < steps; i++) {
    step.run();
    const end = gpu.device.queue.onSubmittedWorkDone().then(() => ends.push(performance.now()));
    await previous;
    previous = end;
  }
  await previous;
  const times = ends
    .slice(1)
    .map((end, i) => end - ends[i])
    .sort((a, b) => a - b);
  return (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
}
