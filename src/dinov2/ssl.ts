/**
 * One DINOv2 training step as a recorded program (spec §2, §3.1): teacher on the unmasked global crops, student on masked
 * global and on local crops in one packed pass, heads, targets, losses, backward, clip, AdamW and the teacher's average.
 *
 * Model code runs once, in the constructor's recording. A step then writes the inputs and replays: every number that
 * changes from step to step is an input.
 */

import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type CompileOptions, Program, type TraceEntry } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { crossEntropy } from '../tensor/cross_entropy.js';
import { Graph } from '../tensor/graph.js';
import { koleo } from '../tensor/koleo.js';
import { featureDeviation, teacherEntropy } from '../tensor/measurements.js';
import { adamWHyper, type GradientClip, HYPER_SHAPE, recordAdamW, recordClip } from '../tensor/optimizer.js';
import { ParameterStore } from '../tensor/parameters.js';
import { randomRanks, rankPitch, SEED_SHAPE, seedWords } from '../tensor/random.js';
import { dropPathRows, invertRows } from '../tensor/row_subsets.js';
import { NO_ROW } from '../tensor/rows.js';
import type { PackedSequences } from '../tensor/sequences.js';
import { softmaxCenter, sinkhornKnopp, updateCenter } from '../tensor/teacher_targets.js';
import { type HeadConfig, headForward, headParameters } from './head.js';
import { parameterGroups } from './parameter_groups.js';
import { finalNorm, tokenRows, type VitConfig, vitForward, vitParameters, weightsOf } from './vit.js';

export interface SslConfig {
  readonly vit: VitConfig;
  readonly dinoHead: HeadConfig;
  /** A head of its own for the patches; without it they go through the DINO head. */
  readonly ibotHead?: HeadConfig;
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
  readonly studentTemperature: number;
  readonly centerMomentum: number;
  readonly layerwiseDecay: number;
  readonly patchEmbedLrMult: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** How activations are stored; with f16 the losses are scaled (spec §4, GradScaler). f32 by default. */
  readonly dtype?: Storage;
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
  /** Steps taken before this one; the optimizer counts from 1. */
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
  /** Mean entropy of the teacher's CLS targets, in nats; ln K is uniform. */
  readonly teacherEntropy: number;
  /** Mean over dimensions of the standard deviation of the normalised CLS features; about 1 / sqrt(D) when healthy. */
  readonly featureDeviation: number;
}

/** Drop-path rate of every block (spec §1.6). */
export function dropPathRates(config: { dropPathRate: number; dropPathUniform: boolean; depth: number }): number[] {
  const { dropPathRate, dropPathUniform, depth } = config;
  return Array.from({ length: depth }, (_, i) =>
    dropPathUniform || depth === 1 ? dropPathRate : (dropPathRate * i) / (depth - 1),
  );
}

/** Sequences that a branch is computed for, of `count`, at drop rate `rate`. */
export function keptSequences(count: number, rate: number): number {
  return Math.max(Math.trunc(count * (1 - rate)), 1);
}

/** Purpose numbers of the random streams on the GPU. */
const STREAM_DROP_PATH = 1;

const PREFIX = { backbone: 'backbone.', dino: 'dino_head.', ibot: 'ibot_head.' } as const;

/** All parameters that the student and the teacher have, with their prefixes. */
export function sslParameters(config: SslConfig) {
  return [
    ...vitParameters(config.vit, PREFIX.backbone),
    ...headParameters(config.dinoHead, PREFIX.dino),
    ...(config.ibotHead ? headParameters(config.ibotHead, PREFIX.ibot) : []),
  ];
}

/** What a step's losses are computed from: logits, targets and which target each row has. */
interface LossTerms {
  readonly student: Tensor;
  readonly targets: Tensor;
  readonly terms: readonly { readonly name: string; readonly rows: number; readonly weight: number }[];
  readonly pairs: Uint32Array;
  /** Rows beyond the CLS rows are masked patches, whose weights change every step. */
  readonly weights: Tensor;
}

export class SslTrainer {
  readonly student: ParameterStore;
  readonly teacher: ParameterStore;
  readonly gradients: ParameterStore;
  readonly firstMoment: ParameterStore;
  readonly secondMoment: ParameterStore;
  /** Centres of the softmax centring, [K] each: state beside the parameters. */
  readonly centers: ParameterStore;
  readonly program: Program;
  readonly modules: readonly string[];
  private readonly patches: number;
  /** CLS rows of the student: local crops, then global ones. */
  private readonly clsRows: Uint32Array;
  private readonly globalClsRows: Uint32Array;
  private readonly results: {
    /** Local, global, and with a shared head iBOT. */
    readonly dino: Tensor;
    readonly ibot: Tensor | undefined;
    readonly koleo: Tensor;
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
    this.centers = new ParameterStore(gpu, 'centers', [
      { name: 'dino_loss.center', shape: [1, config.dinoHead.prototypes] },
      { name: 'ibot_patch_loss.center', shape: [1, (config.ibotHead ?? config.dinoHead).prototypes] },
    ]);
    this.modules = config.ibotHead ? ['backbone', 'dino_head', 'ibot_head'] : ['backbone', 'dino_head'];

    this.program = new Program(gpu, 'ssl step');
    const graph = new Graph(this.program, config.dtype);
    const inputs = this.recordInputs();
    const targets = this.program.scope('teacher', () => graph.withoutGradient(() => this.recordTeacher(graph, inputs)));
    const { seeds, ...losses } = this.program.scope('student', () => this.recordStudent(graph, inputs, targets));
    for (const tensor of [losses.dino, losses.ibot, losses.koleo, losses.entropy, losses.deviation]) {
      if (tensor) this.program.keep(tensor);
    }
    graph.backward(seeds);
    const clip = this.program.scope('optimizer', () => this.recordOptimizer(graph, inputs));
    this.results = { ...losses, clip };
  }

  compile(options?: CompileOptions): Promise<void> {
    return this.program.compile(options);
  }

  // --- Recording -----------------------------------------------------------------------------------------------

  private recordInputs() {
    const { program, config, patches, clsRows } = this;
    const { batch, localCrops, globalSize, localSize, maskUpperbound, pixels, ibotHead, vit } = config;
    const crops = (name: string, count: number, side: number): Tensor =>
      pixels === 'bytes'
        ? program.input(name, [Math.ceil((count * side * side * 3) / 4)], 'u32')
        : program.input(name, [count, 3, side, side]);
    const sizes = [2 * batch, localCrops * batch];
    return {
      globalCrops: crops('global crops', 2 * batch, globalSize),
      localCrops: crops('local crops', localCrops * batch, localSize),
      masks: program.input('masks', [2 * batch, patches], 'u32'),
      maskCount: program.input('mask count', [1], 'u32'),
      // With a shared head CLS rows and masked patches go through it together, else apart.
      teacherRows: program.input('teacher rows', [(ibotHead ? 0 : 2 * batch) + maskUpperbound], 'u32'),
      studentRows: program.input('student rows', [(ibotHead ? 0 : clsRows.length) + maskUpperbound], 'u32'),
      studentCount: program.input('student row count', [1], 'u32'),
      weights: program.input('cross-entropy weights', [(ibotHead ? 0 : clsRows.length) + maskUpperbound]),
      temperature: program.input('teacher temperature', [1]),
      maxNorm: program.input('clip norm', [1]),
      hyper: program.input('optimizer rates', HYPER_SHAPE),
      seed: program.input('seed', SEED_SHAPE, 'u32'),
      ranks:
        config.permutations === 'given' && config.dropPathRate > 0
          ? program.input('drop path ranks', [2 * vit.depth, rankPitch(sizes)], 'u32')
          : undefined,
    };
  }

  private globalGroup(inputs: { globalCrops: Tensor }) {
    const { batch, globalSize, pixels } = this.config;
    return {
      pixels: inputs.globalCrops,
      bytes: pixels === 'bytes',
      count: 2 * batch,
      height: globalSize,
      width: globalSize,
    };
  }

  private head(graph: Graph, name: 'dino' | 'ibot', store: ParameterStore, x: Tensor): Tensor {
    const config = (name === 'ibot' ? this.config.ibotHead : undefined) ?? this.config.dinoHead;
    return graph.program.scope(`${name}_head`, () => headForward(graph, config, weightsOf(store, PREFIX[name]), x));
  }

  /** Targets of the CLS rows [2B, K] and of the masked patches [upperbound, K]: one matrix when the head is shared. */
  private recordTeacher(graph: Graph, inputs: ReturnType<SslTrainer['recordInputs']>): { dino: Tensor; ibot: Tensor } {
    const { config, teacher, program } = this;
    const { batch, maskUpperbound } = config;
    const backbone = weightsOf(teacher, PREFIX.backbone);
    const { tokens } = vitForward(graph, config.vit, backbone, [this.globalGroup(inputs)]);
    const target = (
      logits: Tensor,
      into: Tensor,
      center: string,
      rowStart: number,
      rows: number,
      count?: Tensor,
    ): void => {
      const range = { logits, rowStart, rows, count };
      const options = { ...range, temperature: inputs.temperature, into };
      if (config.centering === 'sinkhorn_knopp') {
        sinkhornKnopp(graph, options);
      } else {
        const state = this.centers.get(center);
        softmaxCenter(graph, { ...options, center: state });
        updateCenter(graph, { ...range, center: state, momentum: config.centerMomentum });
      }
    };
    const cls = 2 * batch;
    if (!config.ibotHead) {
      const logits = this.head(
        graph,
        'dino',
        teacher,
        finalNorm(graph, backbone, tokens, { index: inputs.teacherRows }),
      );
      const into = program.intermediate('targets', logits.shape);
      target(logits, into, 'dino_loss.center', 0, cls);
      target(logits, into, 'ibot_patch_loss.center', cls, maskUpperbound, inputs.maskCount);
      return { dino: into, ibot: into };
    }
    const index = program.constant('teacher cls rows', [cls], this.globalClsRows);
    const dinoLogits = this.head(graph, 'dino', teacher, finalNorm(graph, backbone, tokens, { index }));
    const ibotLogits = this.head(
      graph,
      'ibot',
      teacher,
      finalNorm(graph, backbone, tokens, { index: inputs.teacherRows }),
    );
    const dino = program.intermediate('dino_targets', dinoLogits.shape);
    const ibot = program.intermediate('ibot_targets', ibotLogits.shape);
    target(dinoLogits, dino, 'dino_loss.center', 0, cls);
    target(ibotLogits, ibot, 'ibot_patch_loss.center', 0, maskUpperbound, inputs.maskCount);
    return { dino, ibot };
  }

  /** The rows each residual branch keeps this step, or none without stochastic depth. */
  private recordDropPath(graph: Graph, inputs: ReturnType<SslTrainer['recordInputs']>, groups: PackedSequences) {
    const { config, program } = this;
    if (config.dropPathRate <= 0) return undefined;
    const rates = dropPathRates({ ...config, depth: config.vit.depth });
    const branchRates = rates.flatMap((rate) => [rate, rate]);
    const sizes = groups.map((group) => group.count);
    const kept = branchRates.map((rate) => sizes.map((count) => keptSequences(count, rate)));
    const ranks =
      inputs.ranks ??
      randomRanks(graph, inputs.seed, { branches: branchRates.length, sizes, stream: STREAM_DROP_PATH });
    const subsets = dropPathRows(graph, ranks, { groups, kept });
    const scales = new Map<string, Tensor>();
    return (branch: number) => {
      if (branchRates[branch] <= 0) return undefined;
      const counts = kept[branch];
      const key = counts.join(' ');
      let scale = scales.get(key);
      if (!scale) {
        const rows = groups.flatMap(({ count, length }, g) =>
          new Array<number>(counts[g] * length).fill(count / counts[g]),
        );
        scale = program.constant('drop path scale', [rows.length], Float32Array.from(rows));
        scales.set(key, scale);
      }
      const sequences = groups.map(({ length }, g) => ({ count: counts[g], length }));
      return { subset: subsets[branch], scale, sequences };
    };
  }

  private recordStudent(
    graph: Graph,
    inputs: ReturnType<SslTrainer['recordInputs']>,
    targets: { dino: Tensor; ibot: Tensor },
  ) {
    const { config, student, program, clsRows } = this;
    const { batch, localCrops, localSize, maskUpperbound, pixels, vit } = config;
    const backbone = weightsOf(student, PREFIX.backbone);
    const groups = [
      { ...this.globalGroup(inputs), mask: inputs.masks },
      {
        pixels: inputs.localCrops,
        bytes: pixels === 'bytes',
        count: localCrops * batch,
        height: localSize,
        width: localSize,
      },
    ];
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
    const divisor = 2 + Math.max(2 * localCrops, 1);
    const clsWeights = new Array<number>(clsRows.length).fill(1 / (batch * divisor));
    const clsPairs = [
      ...Array.from({ length: locals }, (_, r) => [r % batch, batch + (r % batch)]),
      ...Array.from({ length: 2 * batch }, (_, r) => [(r + batch) % (2 * batch), NO_ROW]),
    ];
    const clsTerms = [
      { name: 'dino_local_crops', rows: locals, weight: config.dinoWeight },
      { name: 'dino_global_crops', rows: 2 * batch, weight: config.dinoWeight },
    ];
    const patchTerm = { name: 'ibot', rows: maskUpperbound, weight: config.ibotWeight };
    const patchPairs = (first: number): number[][] =>
      Array.from({ length: maskUpperbound }, (_, i) => [first + i, NO_ROW]);
    const seeds: [Tensor, Tensor][] = [];
    const loss = ({ student: logits, targets: probabilities, terms, pairs, weights }: LossTerms): Tensor => {
      const value = crossEntropy(graph, {
        student: logits,
        targets: probabilities,
        pairs: program.constant('target rows', [logits.rows, 2], pairs),
        weights,
        temperature: config.studentTemperature,
        terms,
      });
      seeds.push([
        value,
        program.constant('loss weights', [terms.length], Float32Array.from(terms.map((t) => t.weight))),
      ]);
      return value;
    };

    let features: Tensor;
    let dino: Tensor;
    let ibot: Tensor | undefined;
    if (!config.ibotHead) {
      features = finalNorm(graph, backbone, tokens, patchRows);
      dino = loss({
        student: this.head(graph, 'dino', student, features),
        targets: targets.dino,
        terms: [...clsTerms, patchTerm],
        pairs: Uint32Array.from([...clsPairs, ...patchPairs(2 * batch)].flat()),
        weights: inputs.weights,
      });
    } else {
      const inverse = new Uint32Array(sourceRows).fill(NO_ROW);
      clsRows.forEach((row, r) => {
        inverse[row] = r;
      });
      features = finalNorm(graph, backbone, tokens, {
        index: program.constant('student cls rows', [clsRows.length], clsRows),
        inverse: program.constant('student cls rows, inverse', [sourceRows], inverse),
      });
      const patchFeatures = finalNorm(graph, backbone, tokens, patchRows);
      dino = loss({
        student: this.head(graph, 'dino', student, features),
        targets: targets.dino,
        terms: clsTerms,
        pairs: Uint32Array.from(clsPairs.flat()),
        weights: program.constant('cls weights', [clsRows.length], Float32Array.from(clsWeights)),
      });
      ibot = loss({
        student: this.head(graph, 'ibot', student, patchFeatures),
        targets: targets.ibot,
        terms: [patchTerm],
        pairs: Uint32Array.from(patchPairs(0).flat()),
        weights: inputs.weights,
      });
    }
    const spread = koleo(graph, features, { rowStart: locals, groups: 2, rowsPerGroup: batch });
    if (config.koleoWeight !== 0) {
      seeds.push([spread, program.constant('koleo weight', [1], Float32Array.of(config.koleoWeight))]);
    }
    return {
      seeds,
      dino,
      ibot,
      koleo: spread,
      entropy: teacherEntropy(graph, targets.dino, 0, 2 * batch),
      deviation: featureDeviation(graph, features, locals, 2 * batch),
    };
  }

  private recordOptimizer(graph: Graph, inputs: ReturnType<SslTrainer['recordInputs']>): GradientClip {
    const { config, student, gradients, firstMoment, secondMoment, teacher, modules } = this;
    const official = parameterGroups([...student.names], config.vit.depth, config);
    const moduleIndex = new Map([...official].map(([name, group]) => [name, modules.indexOf(group.module)]));
    const clip = recordClip(graph, gradients, moduleIndex, modules.length, inputs.maxNorm);
    const groups = new Map(
      [...official].map(([name, group]) => [name, { ...group, module: modules.indexOf(group.module) }]),
    );
    recordAdamW(
      graph,
      { student, gradients, firstMoment, secondMoment, teacher },
      groups,
      clip.coefficients,
      inputs.hyper,
    );
    return clip;
  }

  // --- Running -------------------------------------------------------------------------------------------------

  /** Writes the step's data and queues the step. Does not wait for the GPU. */
  run(input: StepInput): void {
    const { program, config, clsRows, globalClsRows } = this;
    const { batch, localCrops, maskUpperbound, vit } = config;
    const { masks } = input;
    if (masks.maskIndices.length !== maskUpperbound) {
      throw new UsageError(`this step has room for ${maskUpperbound} masked patches, not ${masks.maskIndices.length}`);
    }
    const words = (crops: Uint8Array | Float32Array): Uint8Array | Float32Array => {
      if (crops.byteLength % 4 === 0) return crops;
      const padded = new Uint8Array(Math.ceil(crops.byteLength / 4) * 4);
      padded.set(crops as Uint8Array);
      return padded;
    };
    program.write('global crops', words(input.globalCrops));
    program.write('local crops', words(input.localCrops));
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
    const clsWeight = 1 / (batch * (2 + Math.max(2 * localCrops, 1)));
    const clsWeights = new Float32Array(clsRows.length).fill(clsWeight);
    program.write('cross-entropy weights', shared ? behind(clsWeights, patchWeights) : patchWeights);

    program.write('teacher temperature', Float32Array.of(input.teacherTemperature));
    program.write('clip norm', Float32Array.of(input.clipGrad));
    program.write('seed', seedWords(input.seed, input.step));
    program.write(
      'optimizer rates',
      adamWHyper({
        learningRate: input.learningRate,
        lastLayerLearningRate: input.lastLayerLearningRate,
        weightDecay: input.weightDecay,
        teacherMomentum: input.teacherMomentum,
        beta1: config.beta1,
        beta2: config.beta2,
        epsilon: config.epsilon,
        step: input.step + 1,
      }),
    );
    if (config.permutations === 'given' && config.dropPathRate > 0) {
      if (!input.ranks) throw new UsageError('this step takes its permutations from outside: give ranks');
      program.write('drop path ranks', input.ranks);
    }
    program.run();
  }

  /** Reads what the last step logged. Waits for it. */
  async log(): Promise<StepLog> {
    const { dino, ibot, koleo: spread, entropy, deviation, clip } = this.results;
    const read = await this.program.readAll([dino, ibot ?? dino, spread, entropy, deviation, clip.norms, clip.flags]);
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
      gradientNorms: Object.fromEntries(this.modules.map((name, i) => [name, read[5][i]])),
      skipped: read[6].some((flag) => flag !== 0),
      teacherEntropy: read[3][0],
      featureDeviation: read[4][0],
    };
  }

  /** The gradient norm of every parameter in the last step, before clipping. */
  async parameterGradientNorms(): Promise<Map<string, number>> {
    const norms = await this.program.read(this.results.clip.parameters.norms);
    return new Map(this.gradients.names.map((name, i) => [name, norms[i]]));
  }

  /** Runs the step once more with every kernel timed; the weights move on by it. */
  trace(): Promise<TraceEntry[]> {
    return this.program.trace();
  }

  /** Bytes of weights, gradients, optimizer state and intermediates on the GPU. */
  get sizeBytes(): number {
    const stores = [this.student, this.teacher, this.gradients, this.firstMoment, this.secondMoment, this.centers];
    const { arenaBytes, inputBytes, constantBytes } = this.program.cost;
    return stores.reduce((sum, store) => sum + store.sizeBytes, arenaBytes + inputBytes + constantBytes);
  }

  dispose(): void {
    this.program.dispose();
    for (const store of [
      this.student,
      this.teacher,
      this.gradients,
      this.firstMoment,
      this.secondMoment,
      this.centers,
    ]) {
      store.dispose();
    }
  }
}
