/**
 * A training step as something that can be checked and timed: random weights, pixels and masks; learning rate 0 and the
 * teacher held still, so that each run does the same work on the same weights.
 *
 * In float32 the gradient is checked by moving the weights along it and watching the loss. Halves are too coarse for such
 * a move: there the losses and gradient norms are compared with the same step in float32.
 */

import { CounterRandom } from '../src/data/random.js';
import { initializeStore } from '../src/dinov2/initialize.js';
import { collateMasks } from '../src/dinov2/masking.js';
import { type SslConfig, SslTrainer, type StepInput, type StepLog } from '../src/dinov2/ssl.js';
import type { Gpu } from '../src/gpu/device.js';
import type { ResolvedConfig } from '../src/train/config.js';
import { maskSettings, sslConfig } from '../src/train/ssl_config.js';
import type { Comparison } from './comparison.js';
import { PlainTrainer } from './plain/trainer.js';

/** What of a trainer is measured; a second implementation of the step has the same. */
export type StepTrainer = Pick<
  SslTrainer,
  | 'program'
  | 'student'
  | 'teacher'
  | 'gradients'
  | 'centers'
  | 'cost'
  | 'sizeBytes'
  | 'compile'
  | 'run'
  | 'log'
  | 'trace'
  | 'dispose'
>;

export type StepTrainerFactory = (gpu: Gpu, config: SslConfig) => StepTrainer;

/** The step that `webdino train` runs. */
export const FUSED_STEP: StepTrainerFactory = (gpu, config) => new SslTrainer(gpu, config);

/** The same step as it is written first: what the other is compared with. */
export const PLAIN_STEP: StepTrainerFactory = (gpu, config) => new PlainTrainer(gpu, config);

const SEED = 11;

/** Half activations against float32: losses, and norms of gradients. */
const HALF_LOSS_BOUND = 0.02;
const HALF_NORM_BOUND = 0.05;

/** Steps in which the loss scale may fall from 65,536 to 1. */
const MOST_OVERFLOWS = 16;

/** Bytes that look like pixels, the same in every run. */
export function pixelBytes(count: number, side: number): Uint8Array {
  const bytes = new Uint8Array(count * side * side * 3);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + (i >> 7) * 11 + (i >> 3)) % 256;
  return bytes;
}

function stepInput(config: SslConfig, resolved: ResolvedConfig): StepInput {
  const { batch, localCrops, globalSize, localSize } = config;
  return {
    globalCrops: pixelBytes(2 * batch, globalSize),
    localCrops: pixelBytes(localCrops * batch, localSize),
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
}

/** A trainer with weights and data. */
export class PreparedStep {
  private constructor(
    readonly trainer: StepTrainer,
    readonly config: SslConfig,
    readonly input: StepInput,
  ) {}

  /** Makes the trainer, compiles it and draws its weights. */
  static async open(gpu: Gpu, resolved: ResolvedConfig, factory: StepTrainerFactory): Promise<PreparedStep> {
    const config = sslConfig(resolved);
    const step = new PreparedStep(factory(gpu, config), config, stepInput(config, resolved));
    await step.trainer.compile();
    await step.initialize(gpu);
    return step;
  }

  /** For a trainer that someone else compiles. */
  static recorded(gpu: Gpu, resolved: ResolvedConfig, factory: StepTrainerFactory): PreparedStep {
    const config = sslConfig(resolved);
    return new PreparedStep(factory(gpu, config), config, stepInput(config, resolved));
  }

  /** Draws the weights of student and teacher. */
  async initialize(gpu: Gpu): Promise<void> {
    const { layerScale } = this.config.vit;
    await initializeStore(gpu, this.trainer.student, { seed: SEED, layerScale });
    await initializeStore(gpu, this.trainer.teacher, { seed: SEED + 1, layerScale });
  }

  run(): void {
    this.trainer.run(this.input);
  }

  /** Runs the step from the centres that a run begins with, and returns what it logs. */
  async log(): Promise<StepLog> {
    const { centers } = this.trainer;
    await centers.writeAll(new Map(centers.names.map((name) => [name, new Float32Array(centers.get(name).elements)])));
    this.run();
    return this.trainer.log();
  }

  /** By the slope of the loss along its gradient: two more steps, and one that shows the same bits as the first. */
  async checkSlope(): Promise<Comparison[]> {
    const { trainer } = this;
    const before = await this.log();
    const weights = await trainer.student.readAll();
    const gradients = await trainer.gradients.readAll();
    let squares = 0;
    for (const gradient of gradients.values()) for (const g of gradient) squares += g * g;
    const norm = Math.sqrt(squares);
    // Large against float32's rounding of the loss, small against its curvature.
    const h = 2e-3;
    const lossAt = async (distance: number): Promise<number> => {
      const moved = [...weights].map(([name, w]): [string, Float32Array] => {
        const gradient = gradients.get(name)!;
        return [name, w.map((v, i) => v + (distance / norm) * gradient[i])];
      });
      await trainer.student.writeAll(new Map(moved));
      return this.objective(await this.log());
    };
    const slope = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    await trainer.student.writeAll(weights);
    return [
      { what: 'slope of the loss along its gradient', error: Math.abs(slope - norm) / norm, bound: 0.03 },
      ...again(before, await this.log()),
    ];
  }

  /** By the same step in float32. */
  async checkAgainst(exact: StepLog): Promise<Comparison[]> {
    // The first steps write the halves of the weights, and bring the loss scale down to what does not overflow.
    for (let i = 0; i < MOST_OVERFLOWS && (await this.log()).skipped; i++);
    const before = await this.log();
    const relative = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);
    return [
      { what: 'loss', error: relative(before.totalLoss, exact.totalLoss), bound: HALF_LOSS_BOUND },
      ...Object.entries(exact.gradientNorms).map(([module, norm]) => ({
        what: `gradient norm of ${module}`,
        error: relative(before.gradientNorms[module], norm),
        bound: HALF_NORM_BOUND,
      })),
      ...again(before, await this.log()),
    ];
  }

  /** The log shows KoLeo and iBOT by halves, as the official code does. */
  private objective(log: StepLog): number {
    const { dinoWeight, ibotWeight } = this.config;
    return dinoWeight * (log.dinoLocalLoss + log.dinoGlobalLoss) + 2 * log.koleoLoss + 2 * ibotWeight * log.ibotLoss;
  }
}

function again(before: StepLog, after: StepLog): Comparison[] {
  return [
    { what: 'loss of the same step again', error: Math.abs(after.totalLoss - before.totalLoss), bound: 0 },
    { what: 'gradients that are not finite', error: Number(before.skipped), bound: 0 },
  ];
}
