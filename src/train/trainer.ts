/**
 * The training loop: pictures → crops → step, with logs, checkpoints, kNN and a report on the way.
 *
 * The loop never waits for the GPU inside a step and keeps two steps queued: it prepares step t + 1 while t runs, and reads
 * t's few numbers when they are there. Everything random is a function of (seed, step), so a run is continued from the step
 * number, the weights and the optimizer's state: the rest follows, to the last bit.
 */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { type CropBatch, MultiCropLoader } from '../data/loader.js';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import type { ImageSource } from '../data/source.js';
import { DistillTrainer } from '../dinov2/distill.js';
import { clearStore, initializeStore } from '../dinov2/initialize.js';
import { collateFromMasks, collateMasks, everyPatch } from '../dinov2/masking.js';
import { type TrainingSchedules, trainingSchedules } from '../dinov2/schedules.js';
import type { SslTrainer, StepInput, StepLog, StepMasks } from '../dinov2/ssl.js';
import { DataError, UsageError, WebdinoError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { writeFileAtomic, writeFolderAtomic } from '../io/atomic.js';
import { encodeSafetensors } from '../io/safetensors.js';
import {
  type Checkpoint,
  checkpointName,
  checkpointSteps,
  type DataIdentity,
  loadBackbone,
  loadCheckpoint,
  openCheckpoint,
  writeCheckpoint,
  writeStore,
} from './checkpoint.js';
import { CollapseWatch, type CollapseWarning, checkFinite } from './collapse.js';
import { configKeys, configToYaml, loadConfig, type ResolvedConfig, valueAt } from './config.js';
import { isDistillation } from './distillation.js';
import type { KnnMonitor, KnnTop1 } from './knn_monitor.js';
import { type MetricsRecord, MetricsWriter, readMetrics } from './metrics.js';
import type { Progress } from '../io/progress.js';
import { type KnnTable, type ReportData, writeReport } from './report.js';
import { firstCrops, patchPictures } from './run_pictures.js';
import { cropSettings, maskSettings } from './ssl_config.js';
import { TrainingPrograms } from './training_programs.js';

/** Steps that may be queued at once: one runs while the next is being prepared. */
const STEPS_IN_FLIGHT = 2;

/** What a run consists of in its folder, in the order in which a former run's is removed. */
const RUN_FILES = ['metrics.jsonl', 'report.html', 'dumps', 'eval', 'checkpoints', 'config.yaml'] as const;

/** Keys that change how a run is watched or where it lies, and none of its numbers. */
const NEUTRAL_KEYS = new Set([
  'train.output_dir',
  'train.saveckp_freq',
  'train.num_workers',
  'train.cache_dataset',
  'train.log_period',
  'train.checkpoint_period',
  'train.checkpoint_keep',
  'train.eval_period',
  'train.eval_train_path',
  'train.eval_val_path',
  'train.eval_k',
  'evaluation.eval_period_iterations',
  'evaluation.resize',
  'evaluation.crop',
  // Which files they are is told by their hash.
  'distill.teacher',
  'distill.heads',
]);

/** What the runs of one session share. */
export interface SessionOptions {
  readonly gpu: Gpu;
  /** The pictures; they stay the caller's to close. */
  readonly source: ImageSource;
  /** Removes a run that lies there already, instead of refusing. */
  readonly overwrite?: boolean;
  /** Stops after the steps under way, with a checkpoint and a report. */
  readonly signal?: AbortSignal;
  /** Shows the numbers of the first run; what is told of others names them. */
  readonly progress?: Progress;
  /** Writes what the step consists of, with times where the adapter tells them. */
  readonly tracePath?: string;
}

/** One run of a session. */
export interface RunOptions {
  readonly config: ResolvedConfig;
  /** Folder of the run. */
  readonly out: string;
  /** Goes on from this checkpoint of the same folder. */
  readonly resume?: Checkpoint;
  /** Periodic kNN; it stays the caller's to close. */
  readonly monitor?: KnnMonitor;
  /** Called with each step's numbers, in order, one or two steps late. */
  readonly onStep?: (step: number, log: StepLog) => void;
}

export interface TrainOptions extends SessionOptions, RunOptions {}

export interface TrainResult {
  /** Steps taken. */
  readonly step: number;
  readonly totalSteps: number;
  /** Folder of the last checkpoint. */
  readonly checkpoint: string;
  readonly reportPath: string;
  /** The last step's numbers; undefined if none was taken. */
  readonly last?: StepLog;
  /** kNN top-1 in percent, where it was asked for. */
  readonly knn?: KnnTable;
  readonly warnings: number;
  /** Pictures that could not be read. */
  readonly badPictures: number;
}

/** A step on its way through the GPU; inputs and logs of its micro-batches in order. */
interface QueuedStep {
  readonly step: number;
  readonly inputs: readonly StepInput[];
  readonly logs: Promise<StepLog[]>;
  readonly waitMs: number;
}

/**
 * Trains, or goes on training, and leaves the last checkpoint and a report.
 * @throws UsageError for a folder that holds a run already; DataError for pictures or a checkpoint that do not fit;
 *   WebdinoError for losses that are no numbers any more, naming step, term, dump and the line that replays it
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  const [result] = await trainTogether(options, [options]);
  return result;
}

/**
 * Trains several students of one frozen teacher in step: each sees the same crops, and the teacher looks at them once. Every
 * run ends with the bytes that it would have alone.
 * @returns one result a run
 * @throws as `train`; UsageError for runs that stand at different steps
 */
export async function trainTogether(options: SessionOptions, runs: readonly RunOptions[]): Promise<TrainResult[]> {
  const { source, gpu, overwrite } = options;
  const data = dataIdentity(source);
  for (const { out, resume } of runs) {
    if (resume) checkSameData(resume.state.data, data);
    else if (!overwrite) await refuseFormerRun(out);
  }
  const steps = [...new Set(runs.map(({ resume }) => resume?.state.step ?? 0))];
  if (steps.length > 1) {
    throw new UsageError(
      `runs that go on together must stand at one step, not at ${steps.join(' and ')}: name it with --from`,
    );
  }
  const programs = await TrainingPrograms.record(
    gpu,
    runs.map(({ config }) => config),
  );
  try {
    await programs.compile();
    return await new Session(options, runs, programs, data).train();
  } finally {
    programs.dispose();
  }
}

/** One call of {@link trainTogether}: the pictures, the steps, and what happens between them. */
class Session {
  private readonly runs: readonly Run[];
  private readonly config: ResolvedConfig;
  private readonly microBatches: number;
  private readonly startStep: number;
  private readonly totalSteps: number;
  private readonly loader: MultiCropLoader;

  constructor(
    private readonly options: SessionOptions,
    runs: readonly RunOptions[],
    private readonly programs: TrainingPrograms,
    data: DataIdentity,
  ) {
    const { source, gpu } = options;
    this.runs = runs.map(
      (run, i) => new Run(run, options, programs.trainers[i], data, runs.length > 1 ? i : undefined),
    );
    const [{ config, startStep, totalSteps, microBatches }] = this.runs;
    this.config = config;
    this.startStep = startStep;
    this.totalSteps = totalSteps;
    this.microBatches = microBatches;
    // A CPU adapter runs the step on the same cores: more workers would only take time from it.
    const cores = gpu.capabilities.software ? 1 : Math.max(availableParallelism() - 1, 1);
    this.loader = new MultiCropLoader(source, {
      settings: cropSettings(config),
      batchSize: config.train.batch_size_per_gpu,
      seed: config.train.seed,
      startStep: startStep * microBatches,
      workers: Math.min(config.train.num_workers, cores),
      onBad: (bad) => {
        for (const run of this.runs) run.newlyBad.push(bad);
      },
    });
  }

  async train(): Promise<TrainResult[]> {
    const { options, startStep, totalSteps, loader, runs, config } = this;
    try {
      // A checkpoint that cannot be loaded, or a kernel that does not compile, is found before anything is written.
      await this.setState();
      for (const run of runs) await run.openFolder();
      if (options.tracePath && startStep < totalSteps) await this.trace(options.tracePath);
      if (startStep === 0) for (const run of runs) await run.recordBaselines();
      for (const run of runs) run.resetWindow();
      let step = startStep;
      while (step < totalSteps && !options.signal?.aborted) {
        await this.queueStep(step++);
        const last = step === totalSteps;
        const { checkpoint_period: checkpointPeriod, eval_period: evalPeriod } = config.train;
        if (isDue(step, checkpointPeriod) && !last) await this.pause((run) => run.checkpoint(step));
        if (isDue(step, evalPeriod) || last) await this.pause((run) => run.recordKnn(step - 1));
        if (isDue(step, config.evaluation.eval_period_iterations)) await this.pause((run) => run.exportTeacher(step));
      }
      for (const run of runs) await run.settleAll();
      for (const run of runs) await run.checkpoint(step);
      options.progress?.done();
      const results: TrainResult[] = [];
      for (const run of runs) results.push(await run.finish(step));
      return results;
    } finally {
      options.progress?.done();
      await Promise.allSettled(runs.flatMap((run) => run.queue.map(({ logs }) => logs)));
      await loader.close();
      for (const run of runs) run.close();
    }
  }

  private async setState(): Promise<void> {
    await this.programs.resetCenters();
    for (const run of this.runs) await run.setState();
  }

  /** Queues a micro-batch of all runs, the frozen teacher's pass before them. */
  private launch(step: number, micro: number, crops: CropBatch): StepInput[] {
    const inputs = this.runs.map((run) => run.stepInput(step, micro, crops));
    this.programs.teacher?.run(inputs[0]);
    this.runs.forEach((run, i) => {
      run.trainer.run(inputs[i], micro);
    });
    return inputs;
  }

  private async queueStep(step: number): Promise<void> {
    const { runs } = this;
    let waitMs = 0;
    const inputs = runs.map((): StepInput[] => []);
    const reading = runs.map((): Promise<StepLog>[] => []);
    for (let micro = 0; micro < this.microBatches; micro++) {
      const startMs = performance.now();
      const crops = await this.loader.next();
      waitMs += performance.now() - startMs;
      const launched = this.launch(step, micro, crops);
      runs.forEach((run, i) => {
        inputs[i].push(launched[i]);
        reading[i].push(run.trainer.log());
      });
    }
    runs.forEach((run, i) => {
      const logs = Promise.all(reading[i]);
      // It is awaited in its turn; until then a failure must not count as unhandled.
      logs.catch(() => {});
      run.queue.push({ step, inputs: inputs[i], logs, waitMs });
    });
    for (const run of runs) while (run.queue.length >= STEPS_IN_FLIGHT) await run.settle();
  }

  /** Does something between steps: all queued ones are finished first, and its time counts as none of theirs. */
  private async pause(task: (run: Run) => Promise<void>): Promise<void> {
    for (const run of this.runs) await run.settleAll();
    const startMs = performance.now();
    for (const run of this.runs) await task(run);
    for (const run of this.runs) run.window.startMs += performance.now() - startMs;
  }

  /** Runs the first step twice, the second time kernel by kernel, then puts the state back. */
  private async trace(path: string): Promise<void> {
    const { programs, options, startStep, config } = this;
    const { gpu, source } = options;
    const loader = new MultiCropLoader(source, {
      settings: cropSettings(config),
      batchSize: config.train.batch_size_per_gpu,
      seed: config.train.seed,
      startStep: (startStep + 1) * this.microBatches - 1,
      workers: 0,
      prefetch: 0,
    });
    let crops: CropBatch;
    try {
      crops = await loader.next();
    } finally {
      await loader.close();
    }
    // With accumulation: the last micro-batch, which ends in the optimizer.
    const micro = this.microBatches - 1;
    this.launch(startStep, micro, crops);
    await gpu.finish();
    const startMs = performance.now();
    this.launch(startStep, micro, crops);
    await gpu.finish();
    const stepMs = performance.now() - startMs;
    const { dispatches, flops, bytes } = programs.cost;
    const timed = gpu.capabilities.timestampQuery;
    const kernels = timed
      ? await programs.trace()
      : programs.kernelCounts.map(([kernel, counts]) => ({ kernel, timeMs: null, ...counts }));
    const adapter = gpu.capabilities.description;
    const text = JSON.stringify({ adapter, timestamps: timed, stepMs, dispatches, flops, bytes, kernels }, null, 1);
    await writeFileAtomic(path, `${text}\n`);
    await this.setState();
  }
}

/** One run of a session: its weights, its folder and what is written there. */
class Run {
  readonly config: ResolvedConfig;
  readonly totalSteps: number;
  readonly startStep: number;
  readonly queue: QueuedStep[] = [];
  /** Since the last line of metrics: steps finished, time they took, time spent on waiting for pictures. */
  readonly window = { startMs: performance.now(), steps: 0, waitMs: 0 };
  /** Found by the loader; written by the loop, whose metrics are open. */
  readonly newlyBad: { name: string; reason: string }[] = [];
  private readonly out: string;
  private readonly schedules: TrainingSchedules;
  private readonly watch: CollapseWatch;
  private readonly startMs = performance.now();
  /** Open from `openFolder` on. */
  private metrics!: MetricsWriter;
  /** Time that earlier sessions of this run took. */
  private earlierMs = 0;
  private imagesPerSecond: number | undefined;
  private last: StepLog | undefined;
  private lastCheckpoint: { step: number; folder: string } | undefined;
  private badPictures = 0;
  /** Of distillation, where they are always the same. */
  private allPatches: StepMasks | undefined;

  /** @param index where there are several runs: which of them */
  constructor(
    private readonly options: RunOptions,
    private readonly session: SessionOptions,
    readonly trainer: SslTrainer,
    private readonly data: DataIdentity,
    private readonly index?: number,
  ) {
    const { config, out, resume } = options;
    this.config = config;
    this.out = out;
    this.schedules = trainingSchedules(config);
    this.totalSteps = this.schedules.lr.length;
    this.startStep = resume?.state.step ?? 0;
    this.lastCheckpoint = resume && { step: resume.state.step, folder: resume.folder };
    const { dino, student } = config;
    this.watch = new CollapseWatch({
      prototypes: dino.head_n_prototypes,
      embedDim: student.embed_dim,
      koleoWeight: dino.koleo_loss_weight,
    });
  }

  /** What is told of this run, named where there are several. */
  private note(text: string, always = false): void {
    const { progress } = this.session;
    const named = this.index === undefined ? text : `${basename(this.out)}: ${text}`;
    if (always) progress?.note(named);
    else progress?.tell(named);
  }

  close(): void {
    this.metrics?.close();
  }

  async openFolder(): Promise<void> {
    const { out, options, session, config, startStep } = this;
    if (!options.resume && session.overwrite) {
      for (const name of RUN_FILES) await rm(join(out, name), { recursive: true, force: true });
    }
    await writeFileAtomic(join(out, 'config.yaml'), configToYaml(config));
    const path = join(out, 'metrics.jsonl');
    this.metrics = await MetricsWriter.open(path, { resumeStep: options.resume ? startStep : undefined });
    this.earlierMs = lastNumber(readMetrics(path), 'elapsed_s') * 1000;
  }

  /** Weights and optimizer state as they are before the first step of this call; a checkpoint has the centres too. */
  async setState(): Promise<void> {
    const { trainer, session, config, out } = this;
    const { resume } = this.options;
    const { gpu } = session;
    if (resume) {
      await loadCheckpoint(out, resume, trainer);
      return;
    }
    const { student, teacher, firstMoment, secondMoment } = trainer;
    await initializeStore(gpu, student, { seed: config.train.seed, layerScale: config.student.layerscale });
    if (config.student.pretrained_weights !== '') await loadBackbone(config.student.pretrained_weights, student);
    await teacher.copyFrom(student);
    for (const store of [firstMoment, secondMoment]) await clearStore(gpu, store);
    await trainer.resetLossScale();
  }

  // --- Steps ---------------------------------------------------------------------------------------------------

  get microBatches(): number {
    return this.trainer.config.accumulate ?? 1;
  }

  private stepMasks(draw: number): StepMasks {
    const { config, trainer } = this;
    const settings = maskSettings(config);
    const patches = settings.grid[0] * settings.grid[1];
    if (trainer instanceof DistillTrainer && trainer.config.frozen.config.patchLoss !== false) {
      this.allPatches ??= everyPatch(settings.batch2, patches);
      return this.allPatches;
    }
    const drawn = collateMasks(settings, new CounterRandom(config.train.seed, RandomPurpose.masks, draw));
    // The recorded step may have more room than these settings need.
    return collateFromMasks(drawn.masks, patches, trainer.config.maskUpperbound);
  }

  stepInput(step: number, micro: number, crops: CropBatch): StepInput {
    const { config, schedules } = this;
    return {
      globalCrops: crops.globalCrops,
      localCrops: crops.localCrops,
      masks: this.stepMasks(step * this.microBatches + micro),
      learningRate: schedules.lr.at(step),
      lastLayerLearningRate: schedules.lastLayerLr.at(step),
      weightDecay: schedules.weightDecay.at(step),
      teacherMomentum: schedules.momentum.at(step),
      teacherTemperature: schedules.teacherTemp.at(step),
      clipGrad: config.optim.clip_grad,
      step,
      seed: config.train.seed,
    };
  }

  /** Takes the oldest queued step's numbers. */
  async settle(): Promise<void> {
    const { options, window } = this;
    const { config: ssl } = this.trainer;
    const { step, inputs, logs: reading, waitMs } = this.queue[0];
    const logs = await reading;
    const log = meanLog(logs);
    // Of the micro-batches the one to blame, where one is.
    const blamed = logs.findIndex((micro) => !Object.values(lossTerms(micro)).every(Number.isFinite));
    const input = inputs.at(blamed)!;
    this.queue.shift();
    this.last = log;
    window.steps++;
    window.waitMs += waitMs;
    const losses = lossTerms(log);
    // In half precision a gradient that overflows is part of finding the scale, until there is nothing left to lower.
    const overflowed = log.skipped && (ssl.dtype !== 'f16' || log.lossScale === 1);
    const usable = !overflowed && Object.values(losses).every(Number.isFinite);
    if (step % this.config.train.log_period === 0 || step === this.totalSteps - 1 || !usable)
      this.record(step, input, log);
    if (!usable) await this.stopAtNonFinite(step, input, log);
    // The first step includes the driver's compiling; times start after it.
    if (step === this.startStep) {
      this.resetWindow();
      if (!this.index) this.session.progress?.startClock(step + 1);
    }
    options.onStep?.(step, log);
    if (this.index) return;
    const { total_loss: loss, ibot_loss: ibot, koleo_loss: koleo } = losses;
    const dino = log.dinoGlobalLoss + log.dinoLocalLoss;
    const speed = (1000 * window.steps * ssl.batch * this.microBatches) / (performance.now() - window.startMs);
    const imagesPerSecond = window.steps > 1 ? speed : this.imagesPerSecond;
    this.session.progress?.update({ step: step + 1, imagesPerSecond, values: { loss, dino, ibot, koleo } });
  }

  async settleAll(): Promise<void> {
    while (this.queue.length > 0) await this.settle();
  }

  resetWindow(): void {
    Object.assign(this.window, { startMs: performance.now(), steps: 0, waitMs: 0 });
  }

  // --- What is logged ------------------------------------------------------------------------------------------

  private record(step: number, input: StepInput, log: StepLog): void {
    const { window, config } = this;
    const { config: ssl } = this.trainer;
    const record: MetricsRecord = {
      step,
      ...lossTerms(log),
      lr: input.learningRate,
      last_layer_lr: input.lastLayerLearningRate,
      weight_decay: input.weightDecay,
      momentum: input.teacherMomentum,
      teacher_temp: input.teacherTemperature,
      teacher_entropy: log.teacherEntropy,
      feature_std: log.featureDeviation,
    };
    for (const [name, norm] of Object.entries(log.gradientNorms)) record[`grad_norm_${name}`] = norm;
    if (ssl.dtype === 'f16' && log.lossScale !== undefined) record.loss_scale = log.lossScale;
    if (window.steps > 0 && step !== this.startStep) {
      const stepMs = (performance.now() - window.startMs) / window.steps;
      this.imagesPerSecond = (1000 * ssl.batch * this.microBatches) / stepMs;
      record.images_per_second = round(this.imagesPerSecond);
      record.step_ms = round(stepMs);
      record.data_wait_ms = round(window.waitMs / window.steps);
      this.resetWindow();
    }
    record.elapsed_s = round(this.elapsedMs / 1000);
    this.metrics.write(record);
    this.recordBadPictures(step);
    const signs = {
      step,
      featureStd: log.featureDeviation,
      teacherEntropy: log.teacherEntropy,
      dinoLoss: log.dinoGlobalLoss + log.dinoLocalLoss,
      koleoLoss: config.dino.koleo_loss_weight > 0 ? log.koleoLoss : undefined,
    };
    for (const warning of this.watch.observe(signs)) this.warn(warning);
  }

  private warn({ step, message, cure }: CollapseWarning): void {
    this.metrics.write({ step, warning: message, cure });
    this.note(`Warning at step ${step}: ${message} ${cure}`, true);
  }

  private recordBadPictures(step: number): void {
    for (const { name, reason } of this.newlyBad.splice(0)) {
      this.metrics.write({ step, skipped_picture: name, reason });
      this.badPictures++;
      if (!this.index) {
        this.session.progress?.note(`Skipped a picture: ${name} ${reason} (${this.badPictures} so far)`);
      }
    }
  }

  private get elapsedMs(): number {
    return this.earlierMs + performance.now() - this.startMs;
  }

  private recordScores(step: number, prefix: 'knn' | 'untrained' | 'pixels', scores: KnnTop1): void {
    this.metrics.write({ step, ...Object.fromEntries([...scores].map(([k, top1]) => [`${prefix}_top1_k${k}`, top1])) });
    if (prefix !== 'pixels') this.watch.observeKnn(Math.max(...scores.values()));
  }

  /** What the trained network has to beat: raw pixels, and itself before the first step. */
  async recordBaselines(): Promise<void> {
    const { monitor } = this.options;
    if (!monitor) return;
    const pixels = await monitor.pixels();
    const untrained = await monitor.network(this.trainer.teacher);
    this.recordScores(0, 'pixels', pixels);
    this.recordScores(0, 'untrained', untrained);
    this.note(`kNN top-1 before training: raw pixels ${best(pixels)} %, untrained network ${best(untrained)} %`);
  }

  async recordKnn(step: number): Promise<void> {
    const { monitor } = this.options;
    if (!monitor) return;
    const scores = await monitor.network(this.trainer.teacher);
    this.recordScores(step, 'knn', scores);
    this.note(`kNN top-1 after ${step + 1} steps: ${best(scores)} %`);
  }

  // --- What is written -----------------------------------------------------------------------------------------

  async checkpoint(step: number): Promise<void> {
    if (this.lastCheckpoint?.step === step) return;
    const { trainer, config, schedules, totalSteps, data, out } = this;
    const { lr, lastLayerLr, weightDecay, momentum, teacherTemp } = schedules;
    const state = {
      step,
      totalSteps,
      seed: config.train.seed,
      schedule: {
        lr: lr.at(step),
        lastLayerLr: lastLayerLr.at(step),
        weightDecay: weightDecay.at(step),
        momentum: momentum.at(step),
        teacherTemp: teacherTemp.at(step),
      },
      data,
    };
    // Where the run lies is none of its state.
    const yaml = configToYaml({ ...config, train: { ...config.train, output_dir: '.' } });
    const folder = await writeCheckpoint(out, trainer, state, yaml, config.train.checkpoint_keep);
    this.lastCheckpoint = { step, folder };
  }

  /** The teacher's backbone alone, as the official code exports it for evaluation. */
  async exportTeacher(step: number): Promise<void> {
    const path = join(this.out, 'eval', `training_${step}`, 'teacher_checkpoint.safetensors');
    await writeStore(path, this.trainer.teacher, (name) => name.startsWith('backbone.'));
  }

  /** Leaves the step's inputs and the way to it, and ends the run. */
  private async stopAtNonFinite(step: number, input: StepInput, log: StepLog): Promise<never> {
    const { out, config, lastCheckpoint } = this;
    const { config: ssl } = this.trainer;
    const folder = join(out, 'dumps', checkpointName(step));
    const side = ssl.globalSize / ssl.vit.patchSize;
    const { masks } = input;
    const crops = (count: number, size: number, data: StepInput['globalCrops']) =>
      ({ dtype: 'U8', shape: [count, size, size, 3], data }) as const;
    const replay = lastCheckpoint
      ? `webdino resume ${out} --from ${checkpointName(lastCheckpoint.step)}`
      : `webdino ${isDistillation(config) ? 'distill' : 'train'} --config ${join(out, 'config.yaml')} --out ${out}-replay`;
    const { globalCrops, localCrops, masks: _, ...numbers } = input;
    await writeFolderAtomic(folder, async (beside) => {
      const tensors = encodeSafetensors([
        ['global_crops', crops(2 * ssl.batch, ssl.globalSize, globalCrops)],
        ['local_crops', crops(ssl.localCrops * ssl.batch, ssl.localSize, localCrops)],
        ['masks', { dtype: 'U8', shape: [2 * ssl.batch, side * side], data: masks.masks }],
        ['mask_indices', { dtype: 'U32', shape: [masks.maskIndices.length], data: masks.maskIndices }],
        ['masks_weight', { dtype: 'F32', shape: [masks.masksWeight.length], data: masks.masksWeight }],
      ]);
      await writeFileAtomic(join(beside, 'inputs.safetensors'), tensors);
      const state = { ...numbers, maskCount: masks.count, log, checkpoint: lastCheckpoint?.folder ?? null, replay };
      const text = JSON.stringify(
        state,
        (_key, value) => (Number.isNaN(value) || Math.abs(value) === Infinity ? String(value) : value),
        2,
      );
      await writeFileAtomic(join(beside, 'state.json'), `${text}\n`);
      await writeFileAtomic(join(beside, 'config.yaml'), configToYaml(config));
    });
    const norms = Object.entries(log.gradientNorms).map(([name, norm]): [string, number] => [
      `the gradient of ${name}`,
      norm,
    ]);
    const where = `The step's inputs are in ${folder}; this line comes to it again with the same bits: ${replay}`;
    try {
      checkFinite({ ...lossTerms(log), ...Object.fromEntries(norms) }, step);
    } catch (error) {
      throw new WebdinoError(`${(error as Error).message} ${where}`, { cause: error });
    }
    throw new WebdinoError(`Training stopped at step ${step}: a gradient is not finite. ${where}`);
  }

  // --- Report ---------------------------------------------------------------------------------------------------

  async finish(step: number): Promise<TrainResult> {
    const { out, options, session, config, trainer } = this;
    const { gpu, source } = session;
    this.recordBadPictures(Math.max(step - 1, 0));
    const metrics = readMetrics(join(out, 'metrics.jsonl'));
    const text = (record: MetricsRecord, name: string): string => String(record[name] ?? '');
    const warnings = metrics
      .filter(({ warning }) => warning !== undefined)
      .map((record) => ({ step: record.step, message: text(record, 'warning'), cure: text(record, 'cure') }));
    const bad = new Map(
      metrics
        .filter(({ skipped_picture: name }) => name !== undefined)
        .map((record) => [text(record, 'skipped_picture'), text(record, 'reason')]),
    );
    const knn = options.monitor && knnTable(metrics, config.train.eval_k, options.monitor.dataset);
    const reportPath = join(out, 'report.html');
    const report: ReportData = {
      title: `webdino run ${out}`,
      subtitle:
        `${step} of ${this.totalSteps} steps on ${source.length.toLocaleString('en-US')} pictures from ${source.path}, ` +
        (isDistillation(config) ? `frozen teacher ${config.distill.teacher}, ` : '') +
        new Date().toISOString().slice(0, 16).replace('T', ' '),
      configYaml: configToYaml(config),
      machine: describeMachine(gpu),
      metrics,
      wallTimeMs: this.elapsedMs,
      knn,
      pca: trainer.config.frozenBackbone ? undefined : await patchPictures(gpu, trainer.teacher, source, config),
      crops: await firstCrops(source, config),
      warnings,
      badPictures: [...bad].map(([path, reason]) => ({ path, reason })),
    };
    await writeReport(reportPath, report);
    return {
      step,
      totalSteps: this.totalSteps,
      checkpoint: this.lastCheckpoint!.folder,
      reportPath,
      last: this.last,
      knn,
      warnings: warnings.length,
      badPictures: bad.size,
    };
  }
}

/** The numbers of a step from those of its micro-batches: means, and what the optimizer decided after the last. */
function meanLog(logs: readonly StepLog[]): StepLog {
  const mean = (value: (log: StepLog) => number): number =>
    logs.reduce((sum, log) => sum + value(log), 0) / logs.length;
  return {
    ...logs[logs.length - 1],
    dinoLocalLoss: mean((log) => log.dinoLocalLoss),
    dinoGlobalLoss: mean((log) => log.dinoGlobalLoss),
    koleoLoss: mean((log) => log.koleoLoss),
    ibotLoss: mean((log) => log.ibotLoss),
    totalLoss: mean((log) => log.totalLoss),
    teacherEntropy: mean((log) => log.teacherEntropy),
    featureDeviation: mean((log) => log.featureDeviation),
  };
}

function isDue(step: number, period: number): boolean {
  return period > 0 && step % period === 0;
}

function round(value: number): number {
  return Number(value.toPrecision(5));
}

function best(scores: KnnTop1): string {
  return Math.max(...scores.values()).toFixed(1);
}

/** The loss terms under their names in metrics.jsonl. */
function lossTerms(log: StepLog) {
  return {
    total_loss: log.totalLoss,
    dino_local_crops_loss: log.dinoLocalLoss,
    dino_global_crops_loss: log.dinoGlobalLoss,
    ibot_loss: log.ibotLoss,
    koleo_loss: log.koleoLoss,
  };
}

/** The last number of this name in the records, 0 if there is none. */
function lastNumber(records: readonly MetricsRecord[], name: string): number {
  const found = records.filter((record) => typeof record[name] === 'number').at(-1);
  return Number(found?.[name] ?? 0);
}

/** The newest accuracies of teacher, untrained network and raw pixels; undefined before there are any. */
function knnTable(
  metrics: readonly MetricsRecord[],
  neighbours: readonly number[],
  dataset: string,
): KnnTable | undefined {
  const k = [...new Set(neighbours)].sort((a, b) => a - b);
  const row = (name: string, prefix: string) => {
    const record = metrics.filter((one) => typeof one[`${prefix}_top1_k${k[0]}`] === 'number').at(-1);
    return record ? [{ name, top1: k.map((one) => Number(record[`${prefix}_top1_k${one}`])) }] : [];
  };
  const rows = [
    ...row('trained teacher', 'knn'),
    ...row('untrained network', 'untrained'),
    ...row('raw pixels', 'pixels'),
  ];
  return rows.length > 0 ? { dataset, k, rows } : undefined;
}

function describeMachine(gpu: Gpu): [string, string][] {
  const { capabilities: can } = gpu;
  return [
    ['Adapter', gpu.reason || can.description],
    ['Kernels', 'float32'],
    ['Largest buffer', `${Math.round(can.maxBufferSizeBytes / 2 ** 20)} MiB`],
    ['Node', `${process.version} on ${process.platform} ${process.arch}, ${availableParallelism()} processors`],
  ];
}

// --- Folders and data ----------------------------------------------------------------------------------------------

/** Which pictures a run is about. */
export function dataIdentity(source: ImageSource): DataIdentity {
  const hash = createHash('sha256');
  for (let i = 0; i < source.length; i++) hash.update(`${source.name(i)}\n`);
  return { path: source.path, length: source.length, names: hash.digest('hex') };
}

function checkSameData(before: DataIdentity, now: DataIdentity): void {
  if (before.length === now.length && before.names === now.names) return;
  const difference =
    before.length === now.length ? 'other names than' : `${now.length} pictures; there were ${before.length}`;
  throw new DataError(
    `${now.path} has ${difference} when this run began (${before.path}): the order of the pictures would change. ` +
      'Put them back, or start a new run',
  );
}

/** @throws UsageError for a folder that holds a run */
export async function refuseFormerRun(out: string): Promise<void> {
  const steps = await checkpointSteps(out);
  if (steps.length === 0 && !existsSync(join(out, 'metrics.jsonl'))) return;
  const goOn = steps.length > 0 ? `go on with webdino resume ${out}, ` : '';
  throw new UsageError(`${out} holds a run already: ${goOn}choose another --out, or replace it with --overwrite`);
}

/**
 * The checkpoint and configuration that a run goes on with.
 * @param out folder of the run
 * @param options.from name of a checkpoint; default the newest
 * @param options.set `key=value` strings over the run's configuration
 * @param options.config the configuration to go on with, in place of the run's own
 * @returns `changed`: keys that differ from the checkpoint's configuration, so that the numbers will too
 */
export async function prepareResume(
  out: string,
  options: { readonly from?: string; readonly set?: readonly string[]; readonly config?: ResolvedConfig } = {},
): Promise<{ checkpoint: Checkpoint; config: ResolvedConfig; changed: string[] }> {
  const checkpoint = await openCheckpoint(out, options.from);
  const path = join(out, 'config.yaml');
  const file = existsSync(path) ? path : checkpoint.configPath;
  const config = options.config ?? loadConfig({ file, set: options.set });
  config.train.output_dir = out;
  const before = loadConfig({ file: checkpoint.configPath });
  const changed = configKeys().filter(
    (key) => !NEUTRAL_KEYS.has(key) && JSON.stringify(valueAt(config, key)) !== JSON.stringify(valueAt(before, key)),
  );
  return { checkpoint, config, changed };
}
