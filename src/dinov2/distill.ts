/**
 * Distillation (spec §5): a frozen teacher with its heads is what students are compared with. It sees the global crops
 * once a step, whatever the number of students; they see the same crops unmasked, take the patch loss over all patches and
 * have no stochastic depth. The store `teacher` of a student's trainer is the student's moving average: the result.
 *
 * What a student needs of the teacher lies in memory of its own between the two programs: targets of the CLS rows, features
 * of all patches at the heads' bottleneck, and a centre for them. From these the student's program makes the targets of the
 * patches by tiles, as in training, so that nothing of [2B · N, K] exists; in both recipes they are softmax((z - c) / tau).
 */

import * as copyRows from '../../kernels/copy_rows.js';
import { GpuError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type CompileOptions, Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import { teacherEntropy } from '../tensor/measurements.js';
import { ParameterStore, persistentTensor } from '../tensor/parameters.js';
import { prototypeLogits } from '../tensor/prototype_logits.js';
import { moveCenter, sinkhornCenter, softmaxCenter, wholeTargets } from '../tensor/teacher_targets.js';
import { type NetworkConfig, networkParameters, recordHead } from './network.js';
import { cropInput, type SslConfig, type SslInputs, SslTrainer, wholeWords } from './ssl.js';
import { CENTER, centerParameters, recordTargets, recordTeacherFeatures, type StepTargets } from './teacher.js';
import { patchRows, tokenRows } from './vit.js';

/** A frozen teacher and the step it is asked in. */
export interface FrozenTeacherConfig
  extends Pick<
    SslConfig,
    'batch' | 'globalSize' | 'centering' | 'centerMomentum' | 'lossTileBytes' | 'dtype' | 'pixels'
  > {
  readonly network: NetworkConfig;
  /** Whether a student takes the patch loss; if none does, one patch stands in for all. Default: true. */
  readonly patchLoss?: boolean;
}

/** What changes from step to step. */
export interface FrozenTeacherInput {
  readonly globalCrops: Uint8Array | Float32Array;
  readonly teacherTemperature: number;
}

export class FrozenTeacher {
  /** Backbone and heads; they are written once and never change. */
  readonly weights: ParameterStore;
  /** Centres of the softmax centring, which follow the teacher's logits on these pictures: state of the run. */
  readonly centers: ParameterStore;
  readonly program: Program;
  /** Pixels of the global crops, which students read too. */
  readonly globalCrops: Tensor;
  /** What students read. */
  readonly outputs: {
    /** [2B, K] */
    readonly cls: Tensor;
    /** [2B · N or 1, bottleneck], in the storage of activations. */
    readonly patches: Tensor;
    /** [K]: what is taken from the logits of the patches. */
    readonly patchCenter: Tensor;
  };

  /** Records the pass. `compile()` must follow, before that of any student, and the weights must be written. */
  constructor(
    readonly gpu: Gpu,
    readonly config: FrozenTeacherConfig,
  ) {
    const { network, batch, globalSize, pixels, dtype = 'f32', patchLoss = true } = config;
    const { vit, dinoHead } = network;
    const patchHead = network.ibotHead ?? dinoHead;
    const patches = patchLoss ? 2 * batch * (globalSize / vit.patchSize) ** 2 : 1;
    this.weights = new ParameterStore(gpu, 'frozen teacher', networkParameters(network));
    if (dtype === 'f16') this.weights.makeHalf();
    this.centers = new ParameterStore(gpu, 'centers', centerParameters(network));
    const output = (label: string, shape: readonly number[], storage: Storage = 'f32'): Tensor =>
      persistentTensor(gpu, `frozen teacher's ${label}`, shape, storage);
    this.outputs = {
      cls: output('targets', [2 * batch, dinoHead.prototypes]),
      patches: output('patch features', [patches, patchHead.bottleneck], dtype),
      patchCenter: output('patch center', [1, patchHead.prototypes]),
    };
    this.program = new Program(gpu, 'frozen teacher');
    this.globalCrops = cropInput(this.program, 'global crops', 2 * batch, globalSize, pixels);
    const graph = new Graph(this.program, dtype);
    this.program.scope('teacher', () => graph.withoutGradient(() => this.record(graph)));
  }

  private record(graph: Graph): void {
    const { program, config, weights, centers, outputs, globalCrops } = this;
    const { network, batch, globalSize, pixels, centering, centerMomentum, lossTileBytes } = config;
    const { vit, ibotHead } = network;
    const crops = {
      pixels: globalCrops,
      bytes: pixels === 'bytes',
      count: 2 * batch,
      height: globalSize,
      width: globalSize,
    };
    const sequences = [{ count: crops.count, length: 1 + vit.registers + (globalSize / vit.patchSize) ** 2 }];
    const clsRows = Uint32Array.from(tokenRows(sequences, 0, 0));
    const lossPatches = patchRows(vit, sequences, 0).slice(0, outputs.patches.rows);
    const index = ibotHead ? lossPatches : [...clsRows, ...lossPatches];
    const { cls, patches } = recordTeacherFeatures(graph, { ...network, backbone: weights, heads: weights }, crops, {
      cls: clsRows,
      patches: lossPatches.length,
      index: program.constant('teacher rows', [index.length], Uint32Array.from(index)),
    });
    const temperature = program.input('teacher temperature', [1]);
    wholeTargets(program, recordTargets(program, cls, 'cls', { ...config, temperature, centers }), outputs.cls);

    const { features } = patches;
    const from = patches.range?.from ?? 0;
    const copy = { rows: lossPatches.length, columns: features.columns, from, to: 0, storage: features.storage };
    program.dispatch(copyRows.plan(copy), [features, outputs.patches]);
    const logits = prototypeLogits(program, { ...patches, tileBytes: lossTileBytes });
    let center = centers.get(CENTER.patches);
    if (centering === 'sinkhorn_knopp') center = sinkhornCenter(program, { logits, temperature });
    const { columns } = outputs.patchCenter;
    program.dispatch(copyRows.plan({ rows: 1, columns, from: 0, to: 0 }), [center, outputs.patchCenter]);
    if (centering === 'centering') moveCenter(program, { logits, temperature, center, momentum: centerMomentum });
  }

  /**
   * For a student's program, which runs after the teacher's.
   * @param temperature f32 [1]: the teacher temperature of this step
   */
  recordTargets(graph: Graph, temperature: Tensor): StepTargets {
    const { config, weights, outputs } = this;
    const { program } = graph;
    const { prototypes } = recordHead(graph, { ...config.network, heads: weights }, 'ibot');
    const logits = prototypeLogits(program, {
      features: outputs.patches,
      weight: prototypes,
      tileBytes: config.lossTileBytes,
    });
    return {
      cls: outputs.cls,
      entropy: teacherEntropy(graph, outputs.cls),
      patches: softmaxCenter(program, { logits, temperature, center: outputs.patchCenter }),
    };
  }

  async compile(options?: CompileOptions): Promise<void> {
    await this.program.compile(options);
  }

  /** Queues the pass over a step's (or micro-batch's) global crops; the students' `run` must follow. Does not wait. */
  run({ globalCrops, teacherTemperature }: FrozenTeacherInput): void {
    this.weights.assertHalfCurrent();
    this.program.write('global crops', wholeWords(globalCrops));
    this.program.write('teacher temperature', Float32Array.of(teacherTemperature));
    this.program.run();
  }

  /** Students must not run afterwards. */
  dispose(): void {
    this.program.dispose();
    for (const store of [this.weights, this.centers]) store.dispose();
    for (const tensor of Object.values(this.outputs)) this.gpu.destroyBuffer(tensor.place().buffer);
  }
}

/** A student of a frozen teacher; `masks` of its steps are those of `everyPatch`, or none without a patch loss. */
export interface DistillConfig extends SslConfig {
  readonly frozen: FrozenTeacher;
}

export class DistillTrainer extends SslTrainer {
  declare readonly config: DistillConfig;

  /**
   * Records the student's step.
   * @throws GpuError where teacher and student do not fit together
   */
  constructor(gpu: Gpu, config: DistillConfig) {
    super(gpu, fitting(config));
  }

  protected override openCenters(): ParameterStore {
    return this.config.frozen.centers;
  }

  protected override recordGlobalCrops(): Tensor {
    return this.config.frozen.globalCrops;
  }

  /** The teacher's run has written them. */
  protected override writeGlobalCrops(): void {}

  protected override recordTeacher(graph: Graph, inputs: SslInputs): StepTargets {
    return this.config.frozen.recordTargets(graph, inputs.temperature);
  }

  protected override get stores(): readonly ParameterStore[] {
    return super.stores.filter((store) => store !== this.centers);
  }
}

/** What a wrong number here would only show as a shader's bad shape, or not at all. */
function fitting(config: DistillConfig): DistillConfig {
  const { network, ...step } = config.frozen.config;
  const pairs: [string, unknown, unknown][] = [
    ['patch size', network.vit.patchSize, config.vit.patchSize],
    ['size of the global crops', step.globalSize, config.globalSize],
    ['batch', step.batch, config.batch],
    ['storage', step.dtype ?? 'f32', config.dtype ?? 'f32'],
    ['kind of pixels', step.pixels, config.pixels],
    ['DINO prototypes', network.dinoHead.prototypes, config.dinoHead.prototypes],
    ['iBOT prototypes', network.ibotHead?.prototypes, config.ibotHead?.prototypes],
    ['patches in the loss', config.frozen.outputs.patches.rows, config.maskUpperbound],
    ['drop path rate', 0, config.dropPathRate],
  ];
  for (const [what, teacher, student] of pairs) {
    if (teacher !== student) {
      throw new GpuError(`distillation needs one ${what} for teacher and student: ${teacher} is not ${student}`);
    }
  }
  return config;
}
