/**
 * One DINOv2 training step as a recorded program (spec §2, §3.1): teacher on the unmasked global crops, student on masked
 * global and on local crops in one packed pass, heads, targets, losses, backward, clip, AdamW and the teacher's average.
 *
 * Model code runs once, in the constructor's recording. A step then writes the inputs and replays: every number that
 * changes from step to step is an input.
 */

import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type CompileOptions, Program, type ProgramCost, type TraceEntry } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import {
  GROWTH_INTERVAL,
  INITIAL_LOSS_SCALE,
  LOSS_SCALE,
  lossScaleState,
  readLossScale,
  scaledSeed,
} from '../tensor/loss_scale.js';
import { koleo } from '../tensor/koleo.js';
import { featureDeviation, teacherEntropy } from '../tensor/measurements.js';
import {
  adamWHyper,
  type GradientClip,
  HYPER_SHAPE,
  recordAccumulate,
  recordAdamW,
  recordClip,
} from '../tensor/optimizer.js';
import { ParameterStore } from '../tensor/parameters.js';
import { prototypeLoss, type PrototypeLossTerm, sumOfViews } from '../tensor/prototype_loss.js';
import { rankPitch, SEED_SHAPE, seedWords } from '../tensor/random.js';
import { invertRows } from '../tensor/row_subsets.js';
import { NO_ROW } from '../tensor/rows.js';
import type { PackedSequences } from '../tensor/sequences.js';
import { wholeTargets } from '../tensor/teacher_targets.js';
import { headsParameters, type Network, type NetworkConfig, networkParameters, PREFIX, recordHead } from './network.js';
import { parameterGroups } from './parameter_groups.js';
import { centerParameters, recordTargets, recordTeacherFeatures, type StepTargets } from './teacher.js';
import { dropPathRates, recordStochasticDepth } from './stochastic_depth.js';
import { finalNorm, tokenRows, vitForward, weightsOf } from './vit.js';

export { dropPathRates, keptSequences, STREAM_DROP_PATH } from './stochastic_depth.js';

export interface SslConfig extends NetworkConfig {
  /** A backbone that stays as it is, `backbone.…`: student and teacher share it, and only their heads are trained. */
  readonly frozenBackbone?: ParameterStore;
  /** Pictures a step. */
  readonly batch: number;
  readonly localCrops: number;
  /** Side of the crops in pixels. */
  readonly globalSize: number;
  readonly localSize: number;
  /** Most masked patches a step can have (spec §3.3): it fixes the shapes. */
  readonly maskUpperbound: number;
  readonly dropPathRate: number;
  readonly dropPathUniform: boolean;
  readonly centering: 'centering' | 'sinkhorn_knopp';
  readonly dinoWeight: number;
  readonly ibotWeight: number;
  readonly koleoWeight: number;
  /** Most bytes of a float32 tile of logits; `LOSS_TILE_BYTES` by default. */
  readonly lossTileBytes?: number;
  readonly studentTemperature: number;
  readonly centerMomentum: number;
  readonly layerwiseDecay: number;
  readonly patchEmbedLrMult: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** How activations are stored; with f16 the losses are scaled (spec §4, GradScaler). f32 by default. */
  readonly dtype?: Storage;
  /** f16: the loss scale to begin with; 65,536 by default, as in the official code. */
  readonly initialLossScale?: number;
  /** Keeps only the input of each block for the backward pass: less memory for a third more work. */
  readonly activationCheckpointing?: boolean;
  /** Micro-batches of `batch` pictures whose gradients are averaged before one optimizer step; 1 by default. */
  readonly accumulate?: number;
  /** Crops arrive as u8 [n, side, side, 3] (normalised on the GPU) or f32 [n, 3, side, side]. */
  readonly pixels: 'bytes' | 'floats';
  /** Stochastic depth's permutations: drawn on the GPU from the seed, or given with every step (parity). */
  readonly permutations: 'drawn' | 'given';
}

/** The masked patches of one step (spec §3.3), as `collateMasks` makes them. */
export interface StepMasks {
  /** [2 batch * patches], not 0 where masked. */
  readonly masks: Uint8Array;
  /** [upperbound]: flat indices into [2 batch, patches], the first `count` of them used. */
  readonly maskIndices: Uint32Array;
  /** [upperbound]: 1 / (masked patches of that picture), 0 beyond the count. */
  readonly masksWeight: Float32Array;
  readonly count: number;
}

export interface StepInput {
  readonly globalCrops: Uint8Array | Float32Array;
  readonly localCrops: Uint8Array | Float32Array;
  readonly masks: StepMasks;
  readonly learningRate: number;
  readonly lastLayerLearningRate: number;
  readonly weightDecay: number;
  readonly teacherMomentum: number;
  readonly teacherTemperature: number;
  /** 0 or less: no clipping. */
  readonly clipGrad: number;
  /** Steps taken before this one. */
  readonly step: number;
  readonly seed: number;
  /** With `permutations: 'given'`: u32 as from `ranksOfPermutations`. */
  readonly ranks?: Uint32Array;
}

/** What the official code logs (spec §2.7), and what tells a collapse. */
export interface StepLog {
  readonly dinoLocalLoss: number;
  readonly dinoGlobalLoss: number;
  readonly koleoLoss: number;
  readonly ibotLoss: number;
  readonly totalLoss: number;
  /** Gradient norms before clipping, a sub-module. */
  readonly gradientNorms: Readonly<Record<string, number>>;
  /** Whether a gradient was not finite, so that the weights were left alone. */
  readonly skipped: boolean;
  /** What the losses are multiplied by in the next step: 1 in float32. Undefined before the last micro-batch. */
  readonly lossScale: number | undefined;
  /** Mean entropy of the teacher's CLS targets, in nats; ln K is uniform. */
  readonly teacherEntropy: number;
  /** Mean over dimensions of the standard deviation of the normalised CLS features; about 1 / sqrt(D) when healthy. */
  readonly featureDeviation: number;
}

/** All parameters that the student and the teacher have, with their prefixes. */
export function sslParameters(config: SslConfig) {
  return config.frozenBackbone ? headsParameters(config) : networkParameters(config);
}

/** What `recordAdamW` takes behind the graph: stores, groups, step. */
export type UpdateArguments = Parameters<typeof recordAdamW> extends [Graph, ...infer Rest] ? Rest : never;

/** What changes from step to step, as `run` writes it. */
export type SslInputs = ReturnType<SslTrainer['recordInputs']>;

export class SslTrainer {
  readonly student: ParameterStore;
  readonly teacher: ParameterStore;
  readonly gradients: ParameterStore;
  readonly firstMoment: ParameterStore;
  readonly secondMoment: ParameterStore;
  /** Centres of the softmax centring, [K] each: state beside the parameters. */
  readonly centers: ParameterStore;
  /** The loss scale's state and the steps that the optimizer counts: `loss_scale` of loss_scale.ts. */
  readonly lossScale: ParameterStore;
  /** One micro-batch: forward and backward, and without accumulation the optimizer too. */
  readonly program: Program;
  /** With accumulation: the optimizer, after the last micro-batch. */
  private readonly update: Program | undefined;
  private readonly accumulated: ParameterStore | undefined;
  readonly modules: readonly string[];
  private lastMicro = 0;
  private readonly patches: number;
  /** CLS rows of the student: local crops, then global ones. */
  protected readonly clsRows: Uint32Array;
  protected readonly globalClsRows: Uint32Array;
  private readonly results: {
    /** Local, global, and with a shared head iBOT. */
    readonly dino: Tensor;
    readonly ibot: Tensor | undefined;
    readonly koleo: Tensor;
    readonly neighbours: Tensor;
    readonly entropy: Tensor;
    readonly deviation: Tensor;
    readonly clip: GradientClip;
  };

  /** Records the step. `compile()` must follow before the first `run()`. */
  constructor(
    readonly gpu: Gpu,
    readonly config: SslConfig,
  ) {
    const { vit, batch, localCrops, globalSize, localSize } = config;
    if (batch < 1 || localCrops < 1)
      throw new UsageError('training needs at least one picture and one local crop a step');
    this.patches = (globalSize / vit.patchSize) ** 2;
    const length = (side: number): number => 1 + vit.registers + (side / vit.patchSize) ** 2;
    const sequences = [
      { count: 2 * batch, length: length(globalSize) },
      { count: localCrops * batch, length: length(localSize) },
    ];
    this.globalClsRows = Uint32Array.from(tokenRows(sequences, 0, 0));
    this.clsRows = Uint32Array.from([...tokenRows(sequences, 1, 0), ...this.globalClsRows]);

    const specs = sslParameters(config);
    this.student = new ParameterStore(gpu, 'student', specs);
    this.teacher = this.student.like('teacher');
    this.gradients = this.student.like('gradients');
    this.firstMoment = this.student.like('first moment');
    this.secondMoment = this.student.like('second moment');
    this.student.trainable(this.gradients);
    this.centers = this.openCenters();
    this.lossScale = new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]);
    if (config.dtype === 'f16') ParameterStore.pairHalf(this.student, this.teacher);
    if (this.microBatches > 1) this.accumulated = this.student.like('accumulated gradients');
    const modules = config.ibotHead ? ['backbone', 'dino_head', 'ibot_head'] : ['backbone', 'dino_head'];
    this.modules = config.frozenBackbone ? modules.slice(1) : modules;

    this.program = new Program(gpu, 'ssl step');
    const graph = new Graph(this.program, config.dtype);
    const inputs = this.recordInputs();
    const targets = this.program.scope('teacher', () => graph.withoutGradient(() => this.recordTeacher(graph, inputs)));
    const { seeds, ...losses } = this.program.scope('student', () => this.recordStudent(graph, inputs, targets));
    for (const tensor of [losses.dino, losses.ibot, losses.koleo, losses.entropy, losses.deviation]) {
      if (tensor) this.program.keep(tensor);
    }
    graph.backward(seeds);
    let optimizer = graph;
    if (this.accumulated) {
      recordAccumulate(graph, this.accumulated, this.gradients, this.program.input('first micro-batch', [1], 'u32'));
      this.update = new Program(gpu, 'ssl optimizer');
      optimizer = new Graph(this.update);
    }
    const clip = optimizer.program.scope('optimizer', () => this.recordOptimizer(optimizer));
    this.results = { ...losses, clip };
  }

  /** Where the centres are; a teacher that is not this trainer's has its own. */
  protected openCenters(): ParameterStore {
    return new ParameterStore(this.gpu, 'centers', centerParameters(this.config));
  }

  /** Student or teacher as a network. */
  private network(heads: ParameterStore): Network {
    return { ...this.config, heads, backbone: this.config.frozenBackbone ?? heads };
  }

  private get microBatches(): number {
    return this.config.accumulate ?? 1;
  }

  async compile(options?: CompileOptions): Promise<void> {
    await this.program.compile(options);
    await this.update?.compile(options);
    await this.resetLossScale();
  }

  /** Sets the loss scale and the optimizer's count of steps to their start; zero moments belong to it. */
  async resetLossScale(): Promise<void> {
    const scale = this.config.dtype === 'f16' ? (this.config.initialLossScale ?? INITIAL_LOSS_SCALE) : 1;
    await this.lossScale.write(LOSS_SCALE.name, lossScaleState({ scale }));
  }

  // --- Recording -----------------------------------------------------------------------------------------------

  protected recordInputs() {
    const { program, config, patches, clsRows } = this;
    const { batch, localCrops, localSize, maskUpperbound, pixels, ibotHead, vit } = config;
    const sizes = [2 * batch, localCrops * batch];
    return {
      globalCrops: this.recordGlobalCrops(),
      localCrops: cropInput(program, 'local crops', localCrops * batch, localSize, pixels),
      masks: program.input('masks', [2 * batch, patches], 'u32'),
      maskCount: program.input('mask count', [1], 'u32'),
      // With a shared head CLS rows and masked patches go through it together, else apart.
      teacherRows: program.input('teacher rows', [(ibotHead ? 0 : 2 * batch) + maskUpperbound], 'u32'),
      studentRows: program.input('student rows', [(ibotHead ? 0 : clsRows.length) + maskUpperbound], 'u32'),
      studentCount: program.input('student row count', [1], 'u32'),
      weights: program.input('cross-entropy weights', [(ibotHead ? 0 : clsRows.length) + maskUpperbound]),
      temperature: program.input('teacher temperature', [1]),
      seed: program.input('seed', SEED_SHAPE, 'u32'),
      ranks:
        config.permutations === 'given' && config.dropPathRate > 0
          ? program.input('drop path ranks', [2 * vit.depth, rankPitch(sizes)], 'u32')
          : undefined,
    };
  }

  protected recordGlobalCrops(): Tensor {
    const { batch, globalSize, pixels } = this.config;
    return cropInput(this.program, 'global crops', 2 * batch, globalSize, pixels);
  }

  protected writeGlobalCrops(crops: Uint8Array | Float32Array): void {
    this.program.write('global crops', wholeWords(crops));
  }

  protected globalGroup(inputs: { globalCrops: Tensor }) {
    const { batch, globalSize, pixels } = this.config;
    return {
      pixels: inputs.globalCrops,
      bytes: pixels === 'bytes',
      count: 2 * batch,
      height: globalSize,
      width: globalSize,
    };
  }

  protected localGroup(inputs: { localCrops: Tensor }) {
    const { batch, localCrops, localSize, pixels } = this.config;
    return {
      pixels: inputs.localCrops,
      bytes: pixels === 'bytes',
      count: localCrops * batch,
      height: localSize,
      width: localSize,
    };
  }

  /** What the cross-entropies of the CLS rows count. */
  protected get clsWeights(): Float32Array {
    const { batch, localCrops } = this.config;
    return new Float32Array(this.clsRows.length).fill(1 / (batch * (2 + Math.max(2 * localCrops, 1))));
  }

  protected recordTeacher(graph: Graph, inputs: SslInputs): StepTargets {
    const { config, program, centers } = this;
    const { cls, patches } = recordTeacherFeatures(graph, this.network(this.teacher), this.globalGroup(inputs), {
      cls: this.globalClsRows,
      patches: config.maskUpperbound,
      index: inputs.teacherRows,
    });
    const centring = { ...config, temperature: inputs.temperature, centers };
    const probabilities = wholeTargets(program, recordTargets(program, cls, 'cls', centring));
    return {
      cls: probabilities,
      entropy: teacherEntropy(graph, probabilities),
      patches: recordTargets(program, patches, 'patches', centring, inputs.maskCount),
    };
  }

  /** The rows each residual branch keeps this step, or none without stochastic depth. */
  private recordDropPath(graph: Graph, inputs: SslInputs, groups: PackedSequences) {
    const { config } = this;
    if (config.dropPathRate <= 0) return undefined;
    const rates = dropPathRates({ ...config, depth: config.vit.depth });
    return recordStochasticDepth(graph, { rates, groups, seed: inputs.seed, ranks: inputs.ranks });
  }

  protected recordStudent(graph: Graph, inputs: SslInputs, targets: StepTargets) {
    const { config, student, program, clsRows } = this;
    const { batch, localCrops, maskUpperbound, vit } = config;
    const network = this.network(student);
    const backbone = weightsOf(network.backbone, PREFIX.backbone);
    const groups = [{ ...this.globalGroup(inputs), mask: inputs.masks }, this.localGroup(inputs)];
    const sequences = groups.map(({ count, height }) => ({
      count,
      length: 1 + vit.registers + (height / vit.patchSize) ** 2,
    }));
    const { tokens } = vitForward(graph, vit, backbone, groups, {
      kept: this.recordDropPath(graph, inputs, sequences),
      checkpointing: config.activationCheckpointing,
    });

    // CLS of local, then of global crops, then the masked patches: the order in which the official heads see them.
    const sourceRows = tokens.rows;
    const patchRows = {
      index: inputs.studentRows,
      inverse: invertRows(graph, inputs.studentRows, { sourceRows, count: inputs.studentCount }),
    };
    const locals = localCrops * batch;
    const views = sumOfViews(program, targets.cls);
    const clsTerms = [
      { name: 'dino_local_crops', rows: locals, weight: config.dinoWeight, targets: { matrix: views, shift: 0 } },
      // A global crop is compared with the other view.
      {
        name: 'dino_global_crops',
        rows: 2 * batch,
        weight: config.dinoWeight,
        targets: { matrix: targets.cls, shift: batch },
      },
    ];
    const patchTerm = { name: 'ibot', rows: maskUpperbound, weight: config.ibotWeight, targets: targets.patches };
    const seeds: [Tensor, Tensor][] = [];
    const loss = (
      name: 'dino' | 'ibot',
      x: Tensor,
      weights: Tensor,
      terms: readonly (PrototypeLossTerm & { readonly weight: number })[],
    ): Tensor => {
      const head = recordHead(graph, network, name);
      const lossWeights = Float32Array.from(terms, (term) => term.weight);
      const upstream = this.seed(graph, lossWeights);
      const studentFeatures = head.features(x);
      const value = program.scope(`${name}_loss`, () =>
        prototypeLoss(graph, {
          features: studentFeatures,
          weight: head.prototypes,
          weights,
          terms,
          temperature: config.studentTemperature,
          upstream,
          tileBytes: config.lossTileBytes,
        }),
      );
      seeds.push([value, upstream]);
      return value;
    };

    let features: Tensor;
    let dino: Tensor;
    let ibot: Tensor | undefined;
    if (!config.ibotHead) {
      features = finalNorm(graph, backbone, tokens, patchRows);
      dino = loss('dino', features, inputs.weights, [...clsTerms, patchTerm]);
    } else {
      const inverse = new Uint32Array(sourceRows).fill(NO_ROW);
      clsRows.forEach((row, r) => {
        inverse[row] = r;
      });
      features = finalNorm(graph, backbone, tokens, {
        index: program.constant('student cls rows', [clsRows.length], clsRows),
        inverse: program.constant('student cls rows, inverse', [sourceRows], inverse),
      });
      const clsRowWeights = program.constant('cls weights', [clsRows.length], this.clsWeights);
      dino = loss('dino', features, clsRowWeights, clsTerms);
      ibot = loss('ibot', finalNorm(graph, backbone, tokens, patchRows), inputs.weights, [patchTerm]);
    }
    const neighbours = program.keep(program.intermediate('koleo_neighbours', [2 * batch], 'u32'));
    const spread = koleo(graph, features, { rowStart: locals, groups: 2, rowsPerGroup: batch, neighbours });
    if (config.koleoWeight !== 0) {
      seeds.push([spread, this.seed(graph, Float32Array.of(config.koleoWeight))]);
    }
    return {
      seeds,
      dino,
      ibot,
      koleo: spread,
      neighbours,
      entropy: targets.entropy,
      deviation: featureDeviation(graph, features, locals, 2 * batch),
    };
  }

  /** Upstream gradient of a loss: its weights, averaged over the micro-batches, times the loss scale. */
  protected seed(graph: Graph, weights: Float32Array): Tensor {
    const averaged = weights.map((weight) => weight / this.microBatches);
    const constant = this.program.constant('loss weights', [weights.length], averaged);
    return this.config.dtype === 'f16' ? scaledSeed(graph, constant, this.lossScale.get(LOSS_SCALE.name)) : constant;
  }

  private recordOptimizer(graph: Graph): GradientClip {
    const { config, student, firstMoment, secondMoment, teacher, modules } = this;
    const gradients = this.accumulated ?? this.gradients;
    const official = parameterGroups([...student.names], config.vit.depth, config);
    const moduleIndex = new Map([...official].map(([name, group]) => [name, modules.indexOf(group.module)]));
    const clip = recordClip(graph, gradients, {
      modules: moduleIndex,
      moduleCount: modules.length,
      hyper: graph.program.input('optimizer rates', HYPER_SHAPE),
      lossScale: this.lossScale.get(LOSS_SCALE.name),
      growthInterval: config.dtype === 'f16' ? GROWTH_INTERVAL : 0,
    });
    const groups = new Map(
      [...official].map(([name, group]) => [name, { ...group, module: modules.indexOf(group.module) }]),
    );
    this.recordUpdate(graph, { student, gradients, firstMoment, secondMoment, teacher }, groups, clip.step);
    return clip;
  }

  /** The new weights of student and teacher. */
  protected recordUpdate(graph: Graph, ...update: UpdateArguments): void {
    recordAdamW(graph, ...update);
  }

  // --- Running -------------------------------------------------------------------------------------------------

  /**
   * Writes the data of a step, or of one of its micro-batches, and queues it. Does not wait for the GPU.
   * @param micro from 0, in order; the optimizer steps after the last one, with the rates given then
   */
  run(input: StepInput, micro = 0): void {
    if (micro < 0 || micro >= this.microBatches) {
      throw new UsageError(`a step has the micro-batches 0 to ${this.microBatches - 1}, not ${micro}`);
    }
    this.lastMicro = micro;
    for (const store of [this.student, this.teacher, this.config.frozenBackbone]) store?.assertHalfCurrent();
    const { program, config, clsRows, globalClsRows } = this;
    const { batch, maskUpperbound, vit } = config;
    const { masks } = input;
    if (masks.maskIndices.length !== maskUpperbound) {
      throw new UsageError(`this step has room for ${maskUpperbound} masked patches, not ${masks.maskIndices.length}`);
    }
    this.writeGlobalCrops(input.globalCrops);
    program.write('local crops', wholeWords(input.localCrops));
    program.write('masks', Uint32Array.from(masks.masks));
    program.write('mask count', Uint32Array.of(masks.count));

    const length = 1 + vit.registers + this.patches;
    const rows = Uint32Array.from(masks.maskIndices, (flat, i) => {
      if (i >= masks.count) return 0;
      return Math.floor(flat / this.patches) * length + 1 + vit.registers + (flat % this.patches);
    });
    const patchWeights = masks.masksWeight.map((weight, i) => (i < masks.count ? weight / (2 * batch) : 0));
    const shared = !config.ibotHead;
    const behind = <T extends Uint32Array | Float32Array>(first: T, second: T): T => {
      const joined = new (first.constructor as new (n: number) => T)(first.length + second.length);
      joined.set(first);
      joined.set(second, first.length);
      return joined;
    };
    program.write('teacher rows', shared ? behind(globalClsRows, rows) : rows);
    program.write('student rows', shared ? behind(clsRows, rows) : rows);
    program.write('student row count', Uint32Array.of((shared ? clsRows.length : 0) + masks.count));
    program.write('cross-entropy weights', shared ? behind(this.clsWeights, patchWeights) : patchWeights);

    program.write('teacher temperature', Float32Array.of(input.teacherTemperature));
    program.write('seed', seedWords(input.seed, input.step * this.microBatches + micro));
    if (this.update) program.write('first micro-batch', Uint32Array.of(Number(micro === 0)));
    (this.update ?? program).write(
      'optimizer rates',
      adamWHyper({
        learningRate: input.learningRate,
        lastLayerLearningRate: input.lastLayerLearningRate,
        weightDecay: input.weightDecay,
        teacherMomentum: input.teacherMomentum,
        beta1: config.beta1,
        beta2: config.beta2,
        epsilon: config.epsilon,
        maxNorm: input.clipGrad,
      }),
    );
    if (config.permutations === 'given' && config.dropPathRate > 0) {
      if (!input.ranks) throw new UsageError('this step takes its permutations from outside: give ranks');
      program.write('drop path ranks', input.ranks);
    }
    program.run();
    if (micro === this.microBatches - 1) this.update?.run();
  }

  /** Reads what the last step or micro-batch logged. Waits for it. */
  async log(): Promise<StepLog> {
    const { dino, ibot, koleo: spread, entropy, deviation, clip } = this.results;
    const stepped = this.lastMicro === this.microBatches - 1;
    // Both reads are queued at once, before another step overwrites what they read.
    const [read, decided] = await Promise.all([
      this.program.readAll([dino, ibot ?? dino, spread, entropy, deviation]),
      stepped
        ? (this.update ?? this.program).readAll([clip.norms, clip.flags, this.lossScale.get(LOSS_SCALE.name)])
        : undefined,
    ]);
    const ibotValue = ibot ? read[1][0] : read[0][2];
    const dinoLocalLoss = read[0][0];
    const dinoGlobalLoss = read[0][1];
    const koleoLoss = (this.config.koleoWeight * read[2][0]) / 2;
    const ibotLoss = ibotValue / 2;
    return {
      dinoLocalLoss,
      dinoGlobalLoss,
      koleoLoss,
      ibotLoss,
      totalLoss: dinoLocalLoss + dinoGlobalLoss + koleoLoss + ibotLoss,
      gradientNorms: Object.fromEntries(decided ? this.modules.map((name, i) => [name, decided[0][i]]) : []),
      skipped: decided?.[1].some((flag) => flag !== 0) ?? false,
      lossScale: decided && readLossScale(decided[2] as Float32Array).scale,
      teacherEntropy: read[3][0],
      featureDeviation: read[4][0],
    };
  }

  /** u32 [2 batch]: the row that KoLeo took for the nearest of each global crop's class token in the last step. */
  async koleoNeighbours(): Promise<Uint32Array> {
    return (await this.program.read(this.results.neighbours)) as Uint32Array;
  }

  /** The gradient norm of every parameter in the last step, before clipping. */
  async parameterGradientNorms(): Promise<Map<string, number>> {
    const norms = await (this.update ?? this.program).read(this.results.clip.parameters.norms);
    return new Map(this.gradients.names.map((name, i) => [name, norms[i]]));
  }

  /** Runs the step once more with every kernel timed; the weights move on by it. */
  async trace(): Promise<TraceEntry[]> {
    const micro = await this.program.trace();
    return this.update ? [...micro, ...(await this.update.trace())] : micro;
  }

  /** Of one optimizer step; bytes of memory are those of all recorded programs. */
  get cost(): ProgramCost {
    const micro = this.program.cost;
    if (!this.update) return micro;
    const update = this.update.cost;
    const total = { ...micro };
    for (const key of ['dispatches', 'flops', 'bytes'] as const)
      total[key] = micro[key] * this.microBatches + update[key];
    for (const key of ['arenaBytes', 'unsharedBytes', 'inputBytes', 'constantBytes'] as const)
      total[key] = micro[key] + update[key];
    return total;
  }

  /** Bytes of weights, gradients, optimizer state and intermediates on the GPU. */
  get sizeBytes(): number {
    const { arenaBytes, inputBytes, constantBytes } = this.cost;
    return this.stores.reduce((sum, store) => sum + store.sizeBytes, arenaBytes + inputBytes + constantBytes);
  }

  dispose(): void {
    this.program.dispose();
    this.update?.dispose();
    for (const store of this.stores) store.dispose();
  }

  /** What is this trainer's alone. */
  protected get stores(): readonly ParameterStore[] {
    const { student, teacher, gradients, accumulated, firstMoment, secondMoment, centers, lossScale } = this;
    const held = [student, teacher, gradients, firstMoment, secondMoment, centers, lossScale];
    return accumulated ? [...held, accumulated] : held;
  }
}

/** An input for crops. */
export function cropInput(
  program: Program,
  name: string,
  count: number,
  side: number,
  pixels: SslConfig['pixels'],
): Tensor {
  return pixels === 'bytes'
    ? program.input(name, [Math.ceil((count * side * side * 3) / 4)], 'u32')
    : program.input(name, [count, 3, side, side]);
}

/** Crops as an input takes them: bytes fill whole words. */
export function wholeWords(crops: Uint8Array | Float32Array): Uint8Array | Float32Array {
  if (crops.byteLength % 4 === 0) return crops;
  const padded = new Uint8Array(Math.ceil(crops.byteLength / 4) * 4);
  padded.set(crops as Uint8Array);
  return padded;
}
