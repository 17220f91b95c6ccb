/**
 * The schedules of a DINOv2 run: one generic cosine with a frozen and a linear warm-up part, and the five of the
 * recipe made from it (learning rate, last-layer learning rate, weight decay, teacher momentum, teacher temperature).
 *
 * Values are computed in float64 when asked for, not stored: a 625,000-iteration run needs no arrays. The arithmetic
 * follows the order of numpy's `linspace` and of the official formula; what is left is the last bit of the cosine.
 */
import { UsageError } from '../errors.js';

/** A value for every iteration. `at` may be asked beyond `length`: it then gives the final value. */
export interface Schedule {
  /** The value at iteration `i` (0-based). */
  at(i: number): number;
  /** Number of iterations the schedule was made for. */
  readonly length: number;
}

/** The knobs of {@link cosineSchedule}; counts are iterations. */
export interface CosineOptions {
  baseValue: number;
  finalValue: number;
  totalIters: number;
  warmupIters?: number;
  startWarmupValue?: number;
  freezeIters?: number;
}

/**
 * `freezeIters` zeros, then `warmupIters` values evenly from `startWarmupValue` to `baseValue` (both ends included),
 * then half a cosine from `baseValue` towards `finalValue`. The base value appears twice around the junction and the
 * final value is first reached at index `totalIters`, as in the official scheduler.
 *
 * @throws UsageError when the frozen and warm-up parts are longer than the whole.
 * Source: official `CosineScheduler`.
 */
export function cosineSchedule(options: CosineOptions): Schedule {
  const { baseValue, finalValue, totalIters, warmupIters = 0, startWarmupValue = 0, freezeIters = 0 } = options;
  for (const [name, count] of Object.entries({ totalIters, warmupIters, freezeIters })) {
    if (!Number.isInteger(count) || count < 0)
      throw new UsageError(`Schedule: ${name} must be a whole number, got ${count}.`);
  }
  const cosineIters = totalIters - warmupIters - freezeIters;
  if (cosineIters < 0) {
    throw new UsageError(
      `Schedule: ${freezeIters} frozen and ${warmupIters} warm-up iterations do not fit in ${totalIters}. ` +
        'Shorten the warm-up or train longer.',
    );
  }
  const warmupStep = warmupIters > 1 ? (baseValue - startWarmupValue) / (warmupIters - 1) : 0;
  return {
    length: totalIters,
    at(i) {
      if (!(i >= 0)) throw new UsageError(`Schedule: asked for iteration ${i}; iterations start at 0.`);
      if (i >= totalIters) return finalValue;
      if (i < freezeIters) return 0;
      const w = i - freezeIters;
      if (w < warmupIters) return w > 0 && w === warmupIters - 1 ? baseValue : w * warmupStep + startWarmupValue;
      const phase = (Math.PI * (w - warmupIters)) / cosineIters;
      return finalValue + 0.5 * (baseValue - finalValue) * (1 + Math.cos(phase));
    },
  };
}

/** The part of a training configuration that the schedules read; the resolved configuration fits. */
export interface ScheduleConfig {
  train: {
    /** Iterations of one "official epoch", E. */
    OFFICIAL_EPOCH_LENGTH: number;
    /** Total iterations; 0: epochs · E. Otherwise everything counted in epochs is compressed to fit. */
    steps: number;
  };
  teacher: {
    momentum_teacher: number;
    final_momentum_teacher: number;
    warmup_teacher_temp: number;
    teacher_temp: number;
    warmup_teacher_temp_epochs: number;
  };
  optim: {
    epochs: number;
    warmup_epochs: number;
    freeze_last_layer_epochs: number;
    lr: number;
    min_lr: number;
    weight_decay: number;
    weight_decay_end: number;
  };
}

/** Lengths in iterations of what the configuration counts in epochs. */
export interface TrainingLengths {
  /** Iterations of one epoch; not whole where `train.steps` compresses the run. */
  epochLength: number;
  totalIters: number;
  warmupIters: number;
  freezeLastLayerIters: number;
  teacherTempWarmupIters: number;
}

/** Epochs into iterations. With `train.steps` an epoch lasts `steps / epochs` iterations, and the rest follows. */
export function trainingLengths({ train, teacher, optim }: ScheduleConfig): TrainingLengths {
  const epochLength = train.steps > 0 ? train.steps / optim.epochs : train.OFFICIAL_EPOCH_LENGTH;
  const iterations = (epochs: number) => Math.round(epochs * epochLength);
  return {
    epochLength,
    totalIters: train.steps > 0 ? train.steps : iterations(optim.epochs),
    warmupIters: iterations(optim.warmup_epochs),
    freezeLastLayerIters: iterations(optim.freeze_last_layer_epochs),
    teacherTempWarmupIters: iterations(teacher.warmup_teacher_temp_epochs),
  };
}

/** The five schedules of a run. */
export interface TrainingSchedules {
  lr: Schedule;
  /** The same as `lr`, with its first `freeze_last_layer_epochs` at zero. */
  lastLayerLr: Schedule;
  weightDecay: Schedule;
  momentum: Schedule;
  teacherTemp: Schedule;
}

/**
 * The schedules of the recipe. `optim.lr` must already be scaled to the batch (the resolved configuration is).
 *
 * @throws UsageError when the warm-up is longer than the run.
 * Source: official `build_schedulers`; the specification's table of schedules.
 */
export function trainingSchedules(config: ScheduleConfig): TrainingSchedules {
  const { teacher, optim } = config;
  const { totalIters, warmupIters, freezeLastLayerIters, teacherTempWarmupIters } = trainingLengths(config);
  const lr = cosineSchedule({ baseValue: optim.lr, finalValue: optim.min_lr, totalIters, warmupIters });
  return {
    lr,
    lastLayerLr: {
      length: totalIters,
      // Only entries inside the run are frozen: past its end the official array gives the final value.
      at: (i) => (i < Math.min(freezeLastLayerIters, totalIters) ? 0 : lr.at(i)),
    },
    weightDecay: cosineSchedule({ baseValue: optim.weight_decay, finalValue: optim.weight_decay_end, totalIters }),
    momentum: cosineSchedule({
      baseValue: teacher.momentum_teacher,
      finalValue: teacher.final_momentum_teacher,
      totalIters,
    }),
    teacherTemp: cosineSchedule({
      baseValue: teacher.teacher_temp,
      finalValue: teacher.teacher_temp,
      totalIters: teacherTempWarmupIters,
      warmupIters: teacherTempWarmupIters,
      startWarmupValue: teacher.warmup_teacher_temp,
    }),
  };
}
