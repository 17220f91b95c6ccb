/**
 * End-to-end fine-tuning of a backbone under a linear classification head, as a recorded program.
 *
 * The official repository has no recipe for it; its paper only reports that one works. This is the one that BEiT and MAE made
 * common for vision transformers, cut down to what small sets need:
 *
 * - head: one linear layer on CLS and the mean patch token, both after the final norm (2 D inputs, as the official linear
 *   heads have); weights N(0, 0.02), biases 0;
 * - AdamW (0.9, 0.999), weight decay 0.05, none for biases, norms and LayerScale; gradients clipped to norm 1;
 * - layer-wise decay of the learning rate: layer l of L + 1 gets decay^(L + 1 − l), decay 0.65 up to 12 blocks, 0.75 beyond;
 * - base rate 5e-4 for 256 pictures, scaled with the batch; linear warm-up over the first tenth, then cosine to 1e-6;
 * - label smoothing 0.1, stochastic depth 0.1 growing with depth;
 * - random resized crops (scale 0.08 to 1), flips, light colour jitter. No mixup, no cutmix, no random erasing.
 *
 * Rates, seeds, pictures and labels are inputs of the program; nothing of a step is recorded as a constant.
 */

import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import { classPitch, labelCrossEntropy } from '../tensor/label_cross_entropy.js';
import { linear } from '../tensor/linear.js';
import { GROWTH_INTERVAL, INITIAL_LOSS_SCALE, LOSS_SCALE, lossScaleState, scaledSeed } from '../tensor/loss_scale.js';
import { adamWHyper, HYPER_SHAPE, type OptimizerGroup, recordAdamW, recordClip } from '../tensor/optimizer.js';
import { ParameterStore } from '../tensor/parameters.js';
import { poolTokens } from '../tensor/pool_tokens.js';
import { SEED_SHAPE, seedWords } from '../tensor/random.js';
import { initializeStore } from './initialize.js';
import { fineTuneGroups } from './parameter_groups.js';
import { dropPathRates, recordStochasticDepth } from './stochastic_depth.js';
import { finalNorm, type VitConfig, vitForward, vitParameters, weightsOf } from './vit.js';

export interface FineTuneConfig {
  readonly vit: VitConfig;
  readonly classes: number;
  /** Pictures a training step, and a call of `scores`. */
  readonly batch: number;
  /** Pixels of a side, a multiple of the patch size. */
  readonly size: number;
  /** Multiplier of a layer's learning rate against the next one's. Default: `usualLayerDecay`. */
  readonly layerwiseDecay?: number;
  readonly labelSmoothing?: number;
  /** Of the last block; earlier ones have less. */
  readonly dropPathRate?: number;
  readonly weightDecay?: number;
  /** Largest norm of the gradient; 0: no clipping. */
  readonly clipGrad?: number;
  /** How activations are stored; with f16 the loss is scaled. Default f32. */
  readonly dtype?: Storage;
  readonly seed: number;
}

/** The recipe's numbers. */
export const FINE_TUNE = {
  baseRate: 5e-4,
  rateBatch: 256,
  finalRate: 1e-6,
  warmup: 0.1,
  labelSmoothing: 0.1,
  dropPathRate: 0.1,
  weightDecay: 0.05,
  clipGrad: 1,
} as const;

const BETAS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** 0.65 for networks up to 12 blocks, 0.75 for deeper ones. */
export function usualLayerDecay(depth: number): number {
  return depth <= 12 ? 0.65 : 0.75;
}

export interface FineTuneStep {
  /** u8 [batch, size, size, 3], RGB */
  readonly pixels: Uint8Array;
  /** [batch] */
  readonly labels: ArrayLike<number>;
  readonly learningRate: number;
  /** Steps taken before this one. */
  readonly step: number;
}

export interface FineTuneLog {
  /** Mean over the batch of the smoothed cross-entropy. */
  readonly loss: number;
  /** Share of the batch whose class came first. */
  readonly accuracy: number;
  readonly gradientNorm: number;
  /** Whether a gradient was not finite, so that the weights were left alone. */
  readonly skipped: boolean;
}

export class FineTuner {
  readonly config: FineTuneConfig;
  /** The backbone by its official names, `head.weight` [classes up to a multiple of 4, 2 D] and `head.bias`. */
  readonly weights: ParameterStore;
  readonly gradients: ParameterStore;
  private readonly gpu: Gpu;
  private readonly moments: readonly [ParameterStore, ParameterStore];
  private readonly lossScale: ParameterStore;
  private readonly training: Program;
  private readonly inference: Program;
  private readonly results: {
    readonly loss: Tensor;
    readonly rank: Tensor;
    readonly norms: Tensor;
    readonly flags: Tensor;
  };
  private readonly logits: Tensor;

  /**
   * Records training and inference; `compile` must follow.
   * @throws UsageError for a size that patches do not divide, or fewer than two classes
   */
  constructor(gpu: Gpu, config: FineTuneConfig) {
    const { vit, classes, size, dtype = 'f32' } = config;
    if (size % vit.patchSize !== 0) {
      throw new UsageError(`pictures of ${size} px do not divide into patches of ${vit.patchSize}`);
    }
    if (!(classes >= 2)) throw new UsageError(`${classes} classes: a classifier needs two or more`);
    this.gpu = gpu;
    this.config = config;
    const pitch = classPitch(classes);
    this.weights = new ParameterStore(gpu, 'fine-tuned network', [
      ...vitParameters(vit),
      { name: 'head.weight', shape: [pitch, 2 * vit.embedDim] },
      { name: 'head.bias', shape: [pitch] },
    ]);
    if (dtype === 'f16') this.weights.makeHalf();
    this.gradients = this.weights.like('gradients of the network');
    this.moments = [this.weights.like('first moment'), this.weights.like('second moment')];
    this.lossScale = new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]);
    this.weights.trainable(this.gradients);

    this.training = new Program(gpu, 'fine-tuning');
    this.results = this.recordTraining(new Graph(this.training, dtype));
    this.inference = new Program(gpu, 'fine-tuned classifier');
    const graph = new Graph(this.inference, dtype);
    this.logits = this.inference.keep(graph.withoutGradient(() => this.recordLogits(graph)));
  }

  /** Pixels to logits [batch, pitch]. @param kept stochastic depth, where the network learns */
  private recordLogits(graph: Graph, stochasticDepth = false): Tensor {
    const { program } = graph;
    const { vit, batch, size, dropPathRate = FINE_TUNE.dropPathRate } = this.config;
    const pixels = program.input('pixels', [Math.ceil((batch * size * size * 3) / 4)], 'u32');
    const weights = weightsOf(this.weights);
    const sequence = { count: batch, length: 1 + vit.registers + (size / vit.patchSize) ** 2 };
    const kept =
      stochasticDepth && dropPathRate > 0
        ? recordStochasticDepth(graph, {
            rates: dropPathRates({ dropPathRate, dropPathUniform: false, depth: vit.depth }),
            groups: [sequence],
            seed: program.input('seed', SEED_SHAPE, 'u32'),
          })
        : undefined;
    const group = { pixels, bytes: true, count: batch, height: size, width: size };
    const { tokens } = vitForward(graph, vit, weights, [group], { kept });
    const pooled = poolTokens(graph, finalNorm(graph, weights, tokens), sequence, 1 + vit.registers);
    return program.scope('head', () => linear(graph, pooled, weights.get('head.weight'), weights.get('head.bias')));
  }

  private recordTraining(graph: Graph) {
    const { program } = graph;
    const { vit, batch, classes, dtype, labelSmoothing = FINE_TUNE.labelSmoothing } = this.config;
    const logits = this.recordLogits(graph, true);
    const mean = program.constant('mean over the batch', [batch], new Float32Array(batch).fill(1 / batch));
    const state = this.lossScale.get(LOSS_SCALE.name);
    const upstream = dtype === 'f16' ? scaledSeed(graph, mean, state) : mean;
    const labels = program.input('labels', [batch], 'u32');
    const { loss, rank } = labelCrossEntropy(graph, { logits, labels, classes, smoothing: labelSmoothing, upstream });
    graph.backward([[loss, upstream]]);
    const { names } = this.weights;
    const decay = this.config.layerwiseDecay ?? usualLayerDecay(vit.depth);
    const groups = new Map<string, OptimizerGroup>(
      [...fineTuneGroups(names, vit.depth, decay)].map(([name, group]) => [name, { ...group, module: 0 }]),
    );
    const clip = recordClip(graph, this.gradients, {
      modules: new Map(names.map((name) => [name, 0])),
      moduleCount: 1,
      hyper: program.input('optimizer rates', HYPER_SHAPE),
      lossScale: state,
      growthInterval: dtype === 'f16' ? GROWTH_INTERVAL : 0,
    });
    const [firstMoment, secondMoment] = this.moments;
    const stores = { student: this.weights, gradients: this.gradients, firstMoment, secondMoment };
    recordAdamW(graph, stores, groups, clip.step);
    return { loss: program.keep(loss), rank: program.keep(rank), norms: clip.norms, flags: clip.flags };
  }

  /**
   * Compiles, copies the backbone and draws the head.
   * @param backbone a store that holds it
   * @param prefix of the backbone's names in that store
   */
  async compile(backbone: ParameterStore, prefix = ''): Promise<void> {
    await Promise.all([this.training.compile(), this.inference.compile()]);
    const { vit, seed, dtype } = this.config;
    await initializeStore(this.gpu, this.weights, { seed, layerScale: vit.layerScale });
    const names = vitParameters(vit).map(({ name }) => name);
    const values = await backbone.readAll(names.map((name) => prefix + name));
    await this.weights.writeAll(new Map(names.map((name) => [name, values.get(prefix + name)!])));
    const scale = dtype === 'f16' ? INITIAL_LOSS_SCALE : 1;
    await this.lossScale.write(LOSS_SCALE.name, lossScaleState({ scale }));
  }

  /** Writes a step's data and queues it. Does not wait for the GPU. */
  run({ pixels, labels, learningRate, step }: FineTuneStep): void {
    const { training, config } = this;
    const { dropPathRate = FINE_TUNE.dropPathRate, weightDecay = FINE_TUNE.weightDecay } = config;
    this.weights.assertHalfCurrent();
    training.write('pixels', this.wholeWords(pixels));
    training.write('labels', Uint32Array.from(labels));
    if (dropPathRate > 0) training.write('seed', seedWords(config.seed, step));
    training.write(
      'optimizer rates',
      adamWHyper({
        learningRate,
        lastLayerLearningRate: learningRate,
        weightDecay,
        teacherMomentum: 1,
        ...BETAS,
        maxNorm: config.clipGrad ?? FINE_TUNE.clipGrad,
      }),
    );
    training.run();
  }

  /** What the last step did. Waits for it. */
  async log(): Promise<FineTuneLog> {
    const { loss, rank, norms, flags } = this.results;
    const [losses, ranks, norm, flag] = await this.training.readAll([loss, rank, norms, flags]);
    const { batch } = this.config;
    return {
      loss: (losses as Float32Array).reduce((a, b) => a + b, 0) / batch,
      accuracy: (ranks as Uint32Array).reduce((right, r) => right + Number(r === 0), 0) / batch,
      gradientNorm: norm[0],
      skipped: flag[0] !== 0,
    };
  }

  /**
   * Logits of pictures, without stochastic depth. Calls may overlap.
   * @param pixels u8 [n, size, size, 3]
   * @param n 1 to `batch`
   * @returns [n, classes]
   */
  async scores(pixels: Uint8Array, n: number): Promise<Float32Array> {
    const { inference, config, logits } = this;
    const { classes } = config;
    this.weights.assertHalfCurrent();
    inference.write('pixels', this.wholeWords(pixels));
    inference.run();
    const values = await inference.read(logits);
    const pitch = classPitch(classes);
    const scores = new Float32Array(n * classes);
    for (let i = 0; i < n; i++)
      scores.set(values.subarray(i * pitch, i * pitch + classes) as Float32Array, i * classes);
    return scores;
  }

  /** Pixels of up to a batch, filled up to the size of the input. */
  private wholeWords(pixels: Uint8Array): Uint8Array {
    const { batch, size } = this.config;
    const bytes = 4 * Math.ceil((batch * size * size * 3) / 4);
    if (pixels.length === bytes) return pixels;
    if (pixels.length > bytes) throw new UsageError(`${pixels.length} bytes of pixels; at most ${bytes} are taken`);
    const whole = new Uint8Array(bytes);
    whole.set(pixels);
    return whole;
  }

  /** All weights by their official names, the head's with exactly `classes` rows: what a model file holds. */
  async readWeights(): Promise<Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }>> {
    const { classes, vit } = this.config;
    const values = await this.weights.readAll();
    return new Map(
      [...values].map(([name, data]) => {
        if (name === 'head.weight') {
          return [name, { shape: [classes, 2 * vit.embedDim], data: data.slice(0, classes * 2 * vit.embedDim) }];
        }
        if (name === 'head.bias') return [name, { shape: [classes], data: data.slice(0, classes) }];
        return [name, { shape: this.weights.get(name).shape, data }];
      }),
    );
  }

  dispose(): void {
    this.training.dispose();
    this.inference.dispose();
    for (const store of [this.weights, this.gradients, ...this.moments, this.lossScale]) store.dispose();
  }
}
