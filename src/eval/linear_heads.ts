/**
 * Many linear classifiers on the same frozen features, trained together (spec §6.3): each has its own learning rate and sees
 * the CLS tokens of one or of several last blocks, with or without the mean patch token.
 *
 * Heads that see the same features are stacked into one matrix, so that a step is a few dispatches whatever their number:
 * one gemm for the logits of all of them, one cross-entropy, one gemm for the gradients, one update. A batch's rows hold
 * [CLS of the last blocks, shallow to deep, mean patch token]; what a head sees is a range of these columns.
 */

import { fillStore } from '../dinov2/initialize.js';
import { GpuError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import { classPitch, labelCrossEntropy, NO_LABEL } from '../tensor/label_cross_entropy.js';
import { linear } from '../tensor/linear.js';
import { ParameterStore } from '../tensor/parameters.js';
import { recordSgdMomentum } from '../tensor/sgd.js';
import { columnRange } from '../tensor/take_columns.js';

/** The official code's base learning rates, and those of the paper's appendix B.3. */
export const BASE_RATES = {
  official: [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1],
  paper: [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.3, 0.5],
} as const;

/** CLS tokens of this many last blocks. */
export const BLOCK_CHOICES = [1, 4] as const;

/** Batch that base rates are given for. */
const RATE_BATCH = 256;
const MOMENTUM = 0.9;
/** Standard deviation of the initial weights. */
const INITIAL_STD = 0.01;

export interface LinearHead {
  /** `classifier_4_blocks_avgpool_True_lr_0_05000`, the official name: of rates that print alike several have one name. */
  readonly name: string;
  /** How many of the last blocks' CLS tokens it sees. */
  readonly blocks: number;
  /** Whether it sees the mean patch token as well. */
  readonly avgpool: boolean;
  /** As the grid gives it, and as it is used: times batch / 256. */
  readonly baseRate: number;
  readonly rate: number;
}

/**
 * The grid in the official order: blocks, then avgpool, then rates.
 * @param levels CLS tokens that the model gives: with fewer than 4 the larger choice is all of them, with 1 it is left out
 */
export function headGrid(levels: number, baseRates: readonly number[], batch: number): LinearHead[] {
  const choices = [...new Set(BLOCK_CHOICES.map((blocks) => Math.min(blocks, levels)))];
  return choices.flatMap((blocks) =>
    [false, true].flatMap((avgpool) =>
      baseRates.map((baseRate) => {
        const rate = (baseRate * batch) / RATE_BATCH;
        const name = `classifier_${blocks}_blocks_avgpool_${avgpool ? 'True' : 'False'}_lr_${rate.toFixed(5)}`;
        return { name: name.replaceAll('.', '_'), blocks, avgpool, baseRate, rate };
      }),
    ),
  );
}

export interface LinearHeadsOptions {
  readonly heads: readonly LinearHead[];
  readonly classes: number;
  /** CLS tokens of a row, and values of a token; the mean patch token follows them. */
  readonly levels: number;
  readonly dim: number;
  /** Pictures a training step. */
  readonly batch: number;
  readonly seed: number;
}

/** Heads that see the same columns, stacked. */
interface HeadGroup {
  /** Among the heads. */
  readonly indices: readonly number[];
  readonly first: number;
  readonly columns: number;
}

/** Parts of a recorded step. */
interface Stacked {
  readonly loss: Tensor;
  readonly rank: Tensor;
}

export class LinearHeads {
  readonly heads: readonly LinearHead[];
  private readonly gpu: Gpu;
  private readonly options: LinearHeadsOptions;
  /** Values of a row of features. */
  private readonly columns: number;
  private readonly pitch: number;
  private readonly groups: readonly HeadGroup[];
  private readonly weights: ParameterStore;
  private readonly gradients: ParameterStore;
  private readonly velocity: ParameterStore;
  private readonly training: Program;
  private readonly evaluation: Program;
  /** Of each group, [batch * heads of the group]. */
  private readonly lossesOf: readonly Tensor[];
  private readonly ranksOf: readonly Tensor[];

  /**
   * Records a training and an evaluation step; `compile()` must follow.
   * @throws GpuError where even one head does not fit this adapter's bindings
   */
  constructor(gpu: Gpu, options: LinearHeadsOptions) {
    const { heads, classes, levels, dim, batch } = options;
    this.gpu = gpu;
    this.options = options;
    this.heads = heads;
    this.columns = (levels + 1) * dim;
    this.pitch = classPitch(classes);
    this.groups = this.groupHeads();
    const specs = this.groups.flatMap(({ indices, columns }, g) => [
      { name: `group${g}.weight`, shape: [indices.length * this.pitch, columns] },
      { name: `group${g}.bias`, shape: [indices.length * this.pitch] },
    ]);
    this.weights = new ParameterStore(gpu, 'linear heads', specs);
    this.gradients = this.weights.like('gradients of linear heads');
    this.velocity = this.weights.like('velocity of linear heads');
    this.weights.trainable(this.gradients);

    const training = new Program(gpu, 'linear heads');
    const most = batch * Math.max(...this.groups.map(({ indices }) => indices.length));
    const upstream = training.constant('mean over the batch', [most], new Float32Array(most).fill(1 / batch));
    const graph = new Graph(training);
    const recorded = this.record(graph, upstream);
    for (const { loss } of recorded) training.keep(loss);
    graph.backward(recorded.map(({ loss }) => [loss, upstream.slice(0, [loss.elements])]));
    this.groups.forEach(({ indices }, g) => {
      const rates = training.input(`rates ${g}`, [indices.length]);
      for (const part of ['weight', 'bias']) {
        const [gradient, weight, velocity] = [this.gradients, this.weights, this.velocity].map((store) =>
          store.get(`group${g}.${part}`),
        );
        recordSgdMomentum(training, { gradient, weight, velocity }, rates, MOMENTUM);
      }
    });
    this.training = training;
    this.lossesOf = recorded.map(({ loss }) => loss);

    this.evaluation = new Program(gpu, 'ranks by linear heads');
    const judged = new Graph(this.evaluation);
    this.ranksOf = judged.withoutGradient(() => this.record(judged)).map(({ rank }) => this.evaluation.keep(rank));
  }

  /** Heads of one kind side by side, as many as a binding holds the weights and the logits of. */
  private groupHeads(): HeadGroup[] {
    const { heads, levels, dim, batch } = this.options;
    const limitBytes = this.gpu.capabilities.maxBindingSizeBytes;
    const kinds = new Map<string, { indices: number[]; first: number; columns: number }>();
    heads.forEach(({ blocks, avgpool }, index) => {
      const key = `${blocks} ${avgpool}`;
      const kind = kinds.get(key) ?? {
        indices: [],
        first: (levels - blocks) * dim,
        columns: (blocks + Number(avgpool)) * dim,
      };
      kind.indices.push(index);
      kinds.set(key, kind);
    });
    return [...kinds.values()].flatMap(({ indices, first, columns }) => {
      const headBytes = 4 * this.pitch * Math.max(columns, batch);
      const most = Math.max(1, Math.floor(limitBytes / headBytes));
      const groups: HeadGroup[] = [];
      for (let from = 0; from < indices.length; from += most) {
        groups.push({ indices: indices.slice(from, from + most), first, columns });
      }
      return groups;
    });
  }

  /** Losses and ranks of all groups. @param upstream of each loss; none where nothing is learned */
  private record(graph: Graph, upstream?: Tensor): Stacked[] {
    const { program } = graph;
    const { batch, classes } = this.options;
    const features = program.input('features', [batch, this.columns]);
    const labels = program.input('labels', [batch], 'u32');
    return this.groups.map(({ indices, first, columns }, g) =>
      program.scope(`heads.${g}`, () => {
        const x = columnRange(graph, features, first, columns);
        const logits = linear(graph, x, this.weights.get(`group${g}.weight`), this.weights.get(`group${g}.bias`));
        const heads = indices.length;
        const seed = upstream?.slice(0, [batch * heads]);
        return labelCrossEntropy(graph, { logits, labels, classes, heads, upstream: seed });
      }),
    );
  }

  /** Compiles the kernels and draws the initial weights: N(0, 0.01), biases 0. */
  async compile(): Promise<void> {
    await Promise.all([this.training.compile(), this.evaluation.compile()]);
    await fillStore(this.gpu, this.weights, this.options.seed, (name) => ({
      distribution: 'normal',
      mean: 0,
      std: name.endsWith('.bias') ? 0 : INITIAL_STD,
    }));
  }

  /**
   * Queues one step of SGD with momentum: the mean cross-entropy over the batch, summed over the heads. Does not wait.
   * @param features [batch, columns]
   * @param labels [batch]
   * @param factor what all rates are multiplied by in this step, from the schedule
   */
  step(features: Float32Array, labels: ArrayLike<number>, factor: number): void {
    const { training } = this;
    training.write('features', features);
    training.write('labels', Uint32Array.from(labels));
    this.groups.forEach(({ indices }, g) => {
      training.write(
        `rates ${g}`,
        Float32Array.from(indices, (index) => this.heads[index].rate * factor),
      );
    });
    training.run();
  }

  /** [heads]: the mean loss of each over the last step's batch; infinite or NaN where a head has diverged. Waits for it. */
  async lastLosses(): Promise<Float64Array> {
    const { batch } = this.options;
    const read = await this.training.readAll(this.lossesOf);
    const means = new Float64Array(this.heads.length);
    this.groups.forEach(({ indices }, g) => {
      for (let i = 0; i < read[g].length; i++) means[indices[i % indices.length]] += read[g][i] / batch;
    });
    return means;
  }

  /**
   * How many classes each head puts above the truth: 0 is a top-1 hit.
   * @param features [n, columns], n up to the batch
   * @param labels [n]
   * @returns [n, heads]
   */
  async ranks(features: Float32Array, labels: ArrayLike<number>): Promise<Uint32Array> {
    const { batch } = this.options;
    const n = labels.length;
    if (n > batch || features.length !== n * this.columns) {
      throw new GpuError(
        `${features.length} features of ${n} pictures; 1 to ${batch} rows of ${this.columns} are taken`,
      );
    }
    const rows = new Float32Array(batch * this.columns);
    rows.set(features);
    const padded = new Uint32Array(batch).fill(NO_LABEL);
    padded.set(labels);
    this.evaluation.write('features', rows);
    this.evaluation.write('labels', padded);
    this.evaluation.run();
    const read = await this.evaluation.readAll(this.ranksOf);
    const ranks = new Uint32Array(n * this.heads.length);
    this.groups.forEach(({ indices }, g) => {
      for (let i = 0; i < n * indices.length; i++) {
        ranks[Math.floor(i / indices.length) * this.heads.length + indices[i % indices.length]] = read[g][i];
      }
    });
    return ranks;
  }

  /** One head's classifier. @returns weight [classes, columns that it sees], bias [classes] */
  async readHead(head: number): Promise<{ weight: Float32Array; bias: Float32Array }> {
    const { g, place, columns } = this.placeOf(head);
    const { classes } = this.options;
    const values = await this.weights.readAll([`group${g}.weight`, `group${g}.bias`]);
    const at = place * this.pitch;
    return {
      weight: values.get(`group${g}.weight`)!.slice(at * columns, (at + classes) * columns),
      bias: values.get(`group${g}.bias`)!.slice(at, at + classes),
    };
  }

  /** Sets one head's classifier, of the shapes that `readHead` gives. */
  async writeHead(head: number, { weight, bias }: { weight: Float32Array; bias: Float32Array }): Promise<void> {
    const { g, place, columns } = this.placeOf(head);
    const values = await this.weights.readAll([`group${g}.weight`, `group${g}.bias`]);
    values.get(`group${g}.weight`)!.set(weight, place * this.pitch * columns);
    values.get(`group${g}.bias`)!.set(bias, place * this.pitch);
    await this.weights.writeAll(values);
  }

  private placeOf(head: number): { g: number; place: number; columns: number } {
    const g = this.groups.findIndex(({ indices }) => indices.includes(head));
    if (g < 0) throw new GpuError(`there is no head ${head} of ${this.heads.length}`);
    return { g, place: this.groups[g].indices.indexOf(head), columns: this.groups[g].columns };
  }

  /** Opens one head by itself, for its scores. */
  async openHead(head: number): Promise<HeadScorer> {
    const { blocks } = this.heads[head];
    const { batch, levels, dim, classes } = this.options;
    const { weight, bias } = await this.readHead(head);
    const scorer = new HeadScorer(this.gpu, {
      batch,
      wide: this.columns,
      first: (levels - blocks) * dim,
      classes,
      weight,
      bias,
    });
    await scorer.compile();
    return scorer;
  }

  dispose(): void {
    this.training.dispose();
    this.evaluation.dispose();
    for (const store of [this.weights, this.gradients, this.velocity]) store.dispose();
  }
}

/** One linear classifier, for scores of many pictures. */
export class HeadScorer {
  private readonly program: Program;
  private readonly scoresOf: Tensor;

  /** Records it; `compile()` must follow. @param options weight [classes, columns], of rows of `wide` columns from `first` on */
  constructor(
    gpu: Gpu,
    private readonly options: {
      readonly batch: number;
      readonly wide: number;
      readonly first: number;
      readonly classes: number;
      readonly weight: Float32Array;
      readonly bias: Float32Array;
    },
  ) {
    const { batch, wide, first, classes, weight, bias } = options;
    const pitch = classPitch(classes);
    const columns = weight.length / classes;
    const padded = (values: Float32Array, elements: number): Float32Array => {
      const whole = new Float32Array(elements);
      whole.set(values);
      return whole;
    };
    this.program = new Program(gpu, 'scores of a linear head');
    const graph = new Graph(this.program);
    const features = this.program.input('features', [batch, wide]);
    const x = columnRange(graph, features, first, columns);
    const w = this.program.constant('weight', [pitch, columns], padded(weight, pitch * columns));
    const b = this.program.constant('bias', [pitch], padded(bias, pitch));
    this.scoresOf = this.program.keep(linear(graph, x, w, b));
  }

  async compile(): Promise<void> {
    await this.program.compile();
  }

  /** @param features [n, wide], n up to the batch @returns logits [n, classes] */
  async scores(features: Float32Array): Promise<Float32Array> {
    const { batch, wide, classes } = this.options;
    const n = features.length / wide;
    const rows = new Float32Array(batch * wide);
    rows.set(features);
    this.program.write('features', rows);
    this.program.run();
    const logits = await this.program.read(this.scoresOf);
    const pitch = classPitch(classes);
    const scores = new Float32Array(n * classes);
    for (let i = 0; i < n; i++)
      scores.set(logits.subarray(i * pitch, i * pitch + classes) as Float32Array, i * classes);
    return scores;
  }

  dispose(): void {
    this.program.dispose();
  }
}
