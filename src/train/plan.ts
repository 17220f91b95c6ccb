/** What a run will take, counted on a dry GPU before anything is allocated, and what to change where that is too much. */

import { trainingSchedules } from '../dinov2/schedules.js';
import { sslParameters } from '../dinov2/ssl.js';
import { GpuError, UsageError } from '../errors.js';
import { formatBytes } from '../gpu/adapter_memory.js';
import { Gpu } from '../gpu/device.js';
import type { ResolvedConfig } from './config.js';
import { sslConfig } from './ssl_config.js';
import { TrainingPrograms } from './training_programs.js';

/** What a run would take. */
export interface TrainingPlan {
  /** Of what is trained; of the first student, where there are several. */
  readonly parameters: number;
  readonly backboneParameters: number;
  /** The most that lies on the GPU at once: weights, gradients, optimizer state, intermediates, inputs, constants. */
  readonly peakBytes: number;
  readonly dispatches: number;
  /** Of one optimizer step. */
  readonly flops: number;
  readonly steps: number;
  /** Pictures to an optimizer step. */
  readonly batch: number;
  readonly learningRate: number;
}

/**
 * Records the step for the adapter of `gpu` and counts; nothing is allocated, run or written.
 * @param others configurations of students that are distilled beside the first
 * @throws GpuError for a tensor beyond the adapter's limits, naming both
 */
export async function planTraining(
  gpu: Gpu,
  config: ResolvedConfig,
  others: readonly ResolvedConfig[] = [],
): Promise<TrainingPlan> {
  const ssl = sslConfig(config);
  const dry = Gpu.dry(gpu.capabilities, gpu.shaders);
  const programs = await TrainingPrograms.record(dry, [config, ...others]);
  await programs.compile();
  const { dispatches, flops } = programs.cost;
  const count = (prefix: string): number =>
    sslParameters(programs.trainers[0].config)
      .filter(({ name }) => name.startsWith(prefix))
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return {
    parameters: count(''),
    backboneParameters: count('backbone.'),
    peakBytes: dry.peakBytes,
    dispatches,
    flops,
    steps: trainingSchedules(config).lr.length,
    batch: ssl.batch * (ssl.accumulate ?? 1),
    learningRate: config.optim.lr,
  };
}

type TrainKeys = Partial<ResolvedConfig['train']>;

/** Changes that save memory, gentlest first. None alters the batch that an optimizer step sees. */
function savings({ train }: ResolvedConfig): TrainKeys[] {
  const half: TrainKeys = train.dtype === 'f32' ? { dtype: 'f16' } : {};
  const again: TrainKeys = train.activation_checkpointing ? {} : { activation_checkpointing: true };
  const changes: TrainKeys[] = [half, again, { ...half, ...again }];
  for (let parts = 2; train.batch_size_per_gpu % parts === 0 && train.batch_size_per_gpu / parts >= 2; parts *= 2) {
    changes.push({
      ...half,
      ...again,
      batch_size_per_gpu: train.batch_size_per_gpu / parts,
      accumulate: train.accumulate * parts,
    });
  }
  return changes.filter((change) => Object.keys(change).length > 0);
}

/**
 * Tests that a run fits.
 * @param availableBytes of GPU memory
 * @param others configurations of students that are distilled beside the first
 * @throws UsageError with what is missing and the first change of the configuration that would do
 */
export async function checkTrainingFits(
  gpu: Gpu,
  config: ResolvedConfig,
  availableBytes: number,
  others: readonly ResolvedConfig[] = [],
): Promise<TrainingPlan> {
  const plan = await planTraining(gpu, config, others);
  if (plan.peakBytes <= availableBytes) return plan;
  const missing = plan.peakBytes - availableBytes;
  const tried: string[] = [];
  for (const change of savings(config)) {
    const flags = Object.entries(change).map(([key, value]) => `train.${key}=${value}`);
    let peakBytes: number;
    try {
      const changed = [config, ...others].map((one) => ({ ...one, train: { ...one.train, ...change } }));
      ({ peakBytes } = await planTraining(gpu, changed[0], changed.slice(1)));
    } catch (error) {
      if (error instanceof GpuError || error instanceof UsageError) continue;
      throw error;
    }
    tried.push(`--set ${flags.join(' ')} takes ${formatBytes(peakBytes)}`);
    if (peakBytes <= availableBytes) break;
  }
  throw new UsageError(
    `this run needs ${formatBytes(plan.peakBytes)} of GPU memory, ${formatBytes(missing)} more than the ` +
      `${formatBytes(availableBytes)} there are. ${tried.join('; ')}.`,
  );
}
