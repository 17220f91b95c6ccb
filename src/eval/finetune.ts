/**
 * Fine-tuning as an evaluation: how good a classifier a backbone becomes when all of it may change. The recipe is in
 * dinov2/finetune.ts. Random weights trained the same way are the floor: what the labels alone can teach this network.
 */

import { evaluationBatches } from '../data/evaluation_loader.js';
import type { ImageSource } from '../data/source.js';
import { FINE_TUNE, type FineTuneConfig, FineTuner, usualLayerDecay } from '../dinov2/finetune.js';
import { cosineSchedule } from '../dinov2/schedules.js';
import { UsageError } from '../errors.js';
import type { Storage } from '../gpu/tensor.js';
import {
  type ClassifiedModel,
  classificationReport,
  type Predictions,
  predictionsFromScores,
} from './classification.js';
import type { FrozenModel } from './frozen_model.js';
import type { LabelledPair } from './labelled_pair.js';
import type { EvaluationReport } from './result.js';
import type { EvaluationContext } from './task.js';
import { classificationCrops, TrainingCropLoader } from './training_crops.js';

/** Light: fine-grained classes are often told by colour. Factors within 1 ± these; the hue stays. */
export const FINE_TUNE_JITTER = { brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0 } as const;

export const FINE_TUNE_BATCH = 64;
/** Without `iterations`: so many passes over the pictures, within these numbers of steps. */
const USUAL_EPOCHS = 30;
const FEWEST_ITERATIONS = 300;
const MOST_ITERATIONS = 20000;

/** Steps between two looks at the loss, which also keep the queue of the GPU short. */
const STEPS_BETWEEN_LOOKS = 10;

export interface FineTuneRequest {
  readonly pair: LabelledPair;
  /** Steps. Default: 30 passes over the training pictures, at least 300 and at most 20,000. */
  readonly iterations?: number;
  /** Pictures a step. Default 64. */
  readonly batch?: number;
  /** For 256 pictures a step. Default 5e-4. */
  readonly baseRate?: number;
  readonly layerwiseDecay?: number;
  readonly labelSmoothing?: number;
  readonly dropPathRate?: number;
  readonly weightDecay?: number;
  readonly dtype?: Storage;
  readonly multiLabels?: (index: number) => readonly number[];
  /** Called with the first model when it is trained, before it is let go. */
  readonly onTrained?: (tuner: FineTuner) => Promise<void>;
}

/**
 * Fine-tunes a copy of each network and evaluates it. Models without a network (raw pixels, histograms) are left out.
 * @throws UsageError where the first model has no network or a number cannot be; DataError if every picture is corrupt
 */
export async function evaluateFineTune(
  context: EvaluationContext,
  request: FineTuneRequest,
): Promise<EvaluationReport> {
  const startMs = performance.now();
  const { pair } = request;
  const batch = request.batch ?? FINE_TUNE_BATCH;
  const baseRate = request.baseRate ?? FINE_TUNE.baseRate;
  const learningRate = (baseRate * batch) / FINE_TUNE.rateBatch;
  const iterations = request.iterations ?? usualFineTuneIterations(pair.train.length, batch);
  checkShares(request);
  const networks = context.models.filter((model) => model.network);
  if (networks[0] !== context.models[0] || networks.length === 0) {
    throw new UsageError(`${context.models[0].name} has no network that could be trained`);
  }
  const notes: string[] = [];
  const without = context.models.filter((model) => !model.network).map((model) => model.name);
  if (without.length > 0)
    notes.push(`${without.join(' and ')} cannot be fine-tuned and ${without.length > 1 ? 'are' : 'is'} left out`);

  const models: ClassifiedModel[] = [];
  let skipped = 0;
  for (const [m, model] of networks.entries()) {
    const one = await fineTune(context, request, { model, m, batch, learningRate, iterations });
    models.push({ model, ...one });
    skipped += one.skipped;
  }
  if (skipped > 0) notes.push(`${skipped} looks at a step found it skipped: a gradient was not finite`);
  const { vit } = networks[0].network!;
  return classificationReport(context, {
    task: 'finetune',
    pair,
    models,
    settings: {
      iterations,
      trainBatch: batch,
      baseRate,
      learningRate,
      layerwiseDecay: request.layerwiseDecay ?? usualLayerDecay(vit.depth),
      labelSmoothing: request.labelSmoothing ?? FINE_TUNE.labelSmoothing,
      dropPathRate: request.dropPathRate ?? FINE_TUNE.dropPathRate,
      weightDecay: request.weightDecay ?? FINE_TUNE.weightDecay,
      clipGrad: FINE_TUNE.clipGrad,
      warmup: FINE_TUNE.warmup,
      colourJitter: FINE_TUNE_JITTER,
      dtype: request.dtype ?? 'f32',
    },
    notes,
    startMs,
    multiLabels: request.multiLabels,
  });
}

/** 30 passes, within bounds that make sense of very small and very large sets. */
export function usualFineTuneIterations(pictures: number, batch: number): number {
  return Math.min(Math.max(Math.ceil((USUAL_EPOCHS * pictures) / batch), FEWEST_ITERATIONS), MOST_ITERATIONS);
}

function checkShares({ baseRate, layerwiseDecay, labelSmoothing, dropPathRate, weightDecay }: FineTuneRequest): void {
  const demand = (option: string, value: number | undefined, holds: (value: number) => boolean, what: string): void => {
    if (value !== undefined && !holds(value)) throw new UsageError(`${option} ${value}: give ${what}`);
  };
  demand('--lr', baseRate, (value) => value > 0 && Number.isFinite(value), 'a positive number');
  demand('--layer-decay', layerwiseDecay, (value) => value > 0 && value <= 1, 'a number above 0, at most 1');
  demand('--label-smoothing', labelSmoothing, (value) => value >= 0 && value < 1, 'a number from 0, below 1');
  demand('--drop-path', dropPathRate, (value) => value >= 0 && value < 1, 'a number from 0, below 1');
  demand('--weight-decay', weightDecay, (value) => value >= 0 && Number.isFinite(value), 'a number from 0');
}

interface FineTuned {
  readonly predictions: Predictions;
  readonly chosen: Record<string, string | number | boolean>;
  readonly skipped: number;
}

async function fineTune(
  context: EvaluationContext,
  request: FineTuneRequest,
  plan: { model: FrozenModel; m: number; batch: number; learningRate: number; iterations: number },
): Promise<FineTuned> {
  const { model, m, batch, learningRate, iterations } = plan;
  const { pair, layerwiseDecay, labelSmoothing, dropPathRate, weightDecay, dtype } = request;
  const { gpu, crop, seed } = context;
  const { vit, weights, prefix } = model.network!;
  const config: FineTuneConfig = {
    vit,
    classes: pair.classes,
    batch,
    size: crop,
    layerwiseDecay,
    labelSmoothing,
    dropPathRate,
    weightDecay,
    dtype,
    seed,
  };
  const tuner = new FineTuner(gpu, config);
  let crops: TrainingCropLoader | undefined;
  try {
    await tuner.compile(weights, prefix);
    crops = new TrainingCropLoader(pair.train, {
      batchSize: batch,
      seed,
      settings: classificationCrops(crop, FINE_TUNE_JITTER),
      onBad: ({ name, reason }) => {
        if (m === 0) context.note(`left out: ${name} ${reason}`);
      },
    });
    const schedule = cosineSchedule({
      baseValue: learningRate,
      finalValue: Math.min(FINE_TUNE.finalRate, learningRate),
      totalIters: iterations,
      warmupIters: Math.floor(FINE_TUNE.warmup * iterations),
    });
    const what = `${model.name}: fine-tuning`;
    let skipped = 0;
    let accuracy = 0;
    let looks = 0;
    context.progress(what, 0, iterations);
    for (let step = 0; step < iterations; step++) {
      const { pixels, indices } = await crops.next();
      const labels = Array.from(indices, (index) => pair.train.label(index)!);
      tuner.run({ pixels, labels, learningRate: schedule.at(step), step });
      if ((step + 1) % STEPS_BETWEEN_LOOKS === 0 || step + 1 === iterations) {
        const log = await tuner.log();
        skipped += Number(log.skipped);
        // The last tenth says how well the training pictures are known in the end.
        if (step >= 0.9 * iterations) {
          accuracy += log.accuracy;
          looks++;
        }
        context.progress(what, step + 1, iterations);
      }
    }
    if (m === 0) await request.onTrained?.(tuner);
    const predictions = await predict(context, tuner, pair, m);
    return { predictions, chosen: { 'training top1 %': Number(((100 * accuracy) / looks).toFixed(1)) }, skipped };
  } finally {
    await crops?.close();
    tuner.dispose();
  }
}

/** What the trained classifier says of the test pictures. */
async function predict(
  context: EvaluationContext,
  tuner: FineTuner,
  { test, classes, labelOf }: { test: ImageSource; classes: number; labelOf: (label: number) => number },
  m: number,
): Promise<Predictions> {
  const { batch } = tuner.config;
  const scores = new Float32Array(test.length * classes);
  const indices: number[] = [];
  const onBad = ({ name, reason }: { name: string; reason: string }): void => {
    if (m === 0) context.note(`left out: ${name} ${reason}`);
  };
  const options = { resize: context.resize, crop: context.crop, batchSize: batch, onBad };
  for await (const { pixels, indices: places } of evaluationBatches(test, options)) {
    scores.set(await tuner.scores(pixels, places.length), indices.length * classes);
    indices.push(...places);
  }
  const labels = Int32Array.from(indices, (index) => labelOf(test.label(index)!));
  const used = scores.subarray(0, indices.length * classes);
  return predictionsFromScores({ scores: used, classes, labels, indices, confidence: 'softmax' });
}
