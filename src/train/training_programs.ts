/** The recorded programs that configurations ask for: a student with its own average, or a frozen teacher and its students. */

import { DistillTrainer, FrozenTeacher } from '../dinov2/distill.js';
import { clearStore } from '../dinov2/initialize.js';
import { PREFIX } from '../dinov2/network.js';
import { SslTrainer } from '../dinov2/ssl.js';
import { vitParameters } from '../dinov2/vit.js';
import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { ProgramCost, TraceEntry } from '../gpu/program.js';
import { ParameterStore } from '../tensor/parameters.js';
import type { ResolvedConfig } from './config.js';
import { assertOnePass, assertSameTeacher, isDistillation, teacherNetwork } from './distillation.js';
import { sslConfig } from './ssl_config.js';
import { findTeacher, loadTeacher, type TeacherFiles, teacherCenters } from './teacher_files.js';

export class TrainingPrograms {
  private constructor(
    private readonly gpu: Gpu,
    /** One a configuration. */
    readonly trainers: readonly SslTrainer[],
    /** Its run comes before that of the trainers. */
    readonly teacher: FrozenTeacher | undefined,
    private readonly files: TeacherFiles | undefined,
    /** Of a teacher's backbone whose heads are trained. */
    private readonly backbone: ParameterStore | undefined,
  ) {}

  /**
   * Records the programs; several configurations are students of one teacher pass.
   * @throws UsageError, DataError for what does not fit together, or another teacher than the configuration's
   */
  static async record(gpu: Gpu, configs: readonly ResolvedConfig[]): Promise<TrainingPrograms> {
    const [config] = configs;
    if (!isDistillation(config)) {
      const trainers = configs.map((one) => new SslTrainer(gpu, sslConfig(one)));
      return new TrainingPrograms(gpu, trainers, undefined, undefined, undefined);
    }
    assertOnePass(configs);
    const files = await findTeacher(config);
    assertSameTeacher(config, files);
    const { vit } = files;
    if (config.distill.stage === 'heads') {
      const backbone = new ParameterStore(gpu, 'frozen backbone', vitParameters(vit, PREFIX.backbone));
      if (config.train.dtype === 'f16') backbone.makeHalf();
      const trainer = new SslTrainer(gpu, { ...sslConfig(config), vit, frozenBackbone: backbone });
      return new TrainingPrograms(gpu, [trainer], undefined, files, backbone);
    }
    const patchLoss = configs.some(({ ibot }) => ibot.loss_weight > 0);
    const network = teacherNetwork(files, config);
    const frozen = new FrozenTeacher(gpu, { ...sslConfig(config), network, patchLoss });
    const patches = frozen.outputs.patches.rows;
    const trainers = configs.map(
      (one) => new DistillTrainer(gpu, { ...sslConfig(one), dropPathRate: 0, maskUpperbound: patches, frozen }),
    );
    return new TrainingPrograms(gpu, trainers, frozen, files, undefined);
  }

  /** Compiles, and loads what is frozen. @throws DataError for a teacher's file that lacks something */
  async compile(): Promise<void> {
    // The students' programs bind memory of the teacher's.
    await this.teacher?.compile();
    for (const trainer of this.trainers) await trainer.compile();
    if (this.gpu.dry || !this.files) return;
    if (this.teacher && !this.files.dinoHead) {
      throw new UsageError(`${this.files.headsPath} has no heads: train them first with webdino distill --train-heads`);
    }
    await loadTeacher(this.files, (this.teacher?.weights ?? this.backbone)!);
  }

  /** Centres as they are before the first step. */
  async resetCenters(): Promise<void> {
    for (const { centers } of this.trainers) await clearStore(this.gpu, centers);
    if (this.teacher) await this.teacher.centers.writeAll(await teacherCenters(this.files!, this.teacher.centers));
  }

  /** Runs the step once more with every kernel timed. */
  async trace(): Promise<TraceEntry[]> {
    const entries = (await this.teacher?.program.trace()) ?? [];
    for (const trainer of this.trainers) entries.push(...(await trainer.trace()));
    return entries;
  }

  /** How often each kernel runs in a micro-batch. */
  get kernelCounts() {
    return this.trainers
      .flatMap(({ program }) => [...program.kernelCounts])
      .concat([...(this.teacher?.program.kernelCounts ?? [])]);
  }

  /** Of one optimizer step of all trainers. */
  get cost(): Pick<ProgramCost, 'dispatches' | 'flops' | 'bytes'> {
    const [{ config }] = this.trainers;
    const parts = this.trainers.map(({ cost }) => cost);
    const pass = this.teacher?.program.cost;
    const sum = (key: 'dispatches' | 'flops' | 'bytes'): number =>
      parts.reduce((total, part) => total + part[key], (config.accumulate ?? 1) * (pass?.[key] ?? 0));
    return { dispatches: sum('dispatches'), flops: sum('flops'), bytes: sum('bytes') };
  }

  dispose(): void {
    for (const trainer of this.trainers) trainer.dispose();
    this.teacher?.dispose();
    this.backbone?.dispose();
  }
}
