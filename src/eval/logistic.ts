/**
 * `eval logistic`: L2-regularised logistic regression on frozen CLS features (spec §6.4), the strength of the penalty chosen
 * among many on a selection set, then fitted again on everything that was learned from or chosen on.
 *
 * As in the official code pictures are resized to the crop itself, features are not normalised, and the solver is L-BFGS with
 * at most 1000 iterations; here in float32, where cuML had float64.
 */

import type { ImageSource } from '../data/source.js';
import { UsageError } from '../errors.js';
import { type ClassifiedModel, classificationReport, predictionsFromScores } from './classification.js';
import type { FrozenModel } from './frozen_model.js';
import { type GlobalFeatures, readGlobalFeatures } from './global_features.js';
import type { LabelledPair } from './labelled_pair.js';
import {
  fitLogistic,
  LOGISTIC_ITERATIONS,
  LOGISTIC_STRENGTHS,
  LOGISTIC_TOLERANCE,
  type LogisticModel,
  logisticScores,
} from './logistic_regression.js';
import { type RowReader, rowsOf } from './nearest_rows.js';
import type { EvaluationReport, Figure } from './result.js';
import type { EvaluationContext } from './task.js';
import { TorchRandom } from './torch_random.js';

/** Share of the training pictures that chooses C where no other set does. */
const SELECTION_SHARE = 0.1;

export interface LogisticRequest {
  readonly pair: LabelledPair;
  /** Labelled pictures that choose C; its labels read in the training set's numbering. Default: a tenth of the training set. */
  readonly selection?: { readonly source: ImageSource; readonly labelOf: (label: number) => number };
  /** Whether the test pictures themselves choose C, as the official `--finetune-on-val` does; not with `selection`. */
  readonly selectOnTest?: boolean;
  /** Strengths of the data against the penalty. Default: the official 45. */
  readonly c?: readonly number[];
  /** Default 1000. */
  readonly maxIterations?: number;
  /** Choose, and report first, the mean of the classes' accuracies. */
  readonly perClass?: boolean;
}

interface Labelled {
  /** [n, columns] */
  readonly values: Float32Array;
  readonly features: RowReader;
  readonly labels: Int32Array;
}

interface Fitted {
  readonly classified: ClassifiedModel;
  /** [c]: of the selection set, percent. */
  readonly accuracies: readonly number[];
  readonly unfinished: number;
}

/**
 * @throws UsageError for a C that is not positive or too few pictures; DataError for a single class or if
 * every picture is corrupt
 */
export async function evaluateLogistic(
  context: EvaluationContext,
  request: LogisticRequest,
): Promise<EvaluationReport> {
  const startMs = performance.now();
  const { pair, selection, selectOnTest = false, perClass = false } = request;
  const c = request.c ?? LOGISTIC_STRENGTHS;
  const maxIterations = request.maxIterations ?? LOGISTIC_ITERATIONS;
  const notes: string[] = [];
  if (selectOnTest) notes.push('C is chosen on the test pictures themselves, which is optimistic');
  const fitted: Fitted[] = [];
  for (const [m, model] of context.models.entries()) {
    const one = await fit(context, model, m, { ...request, c, maxIterations });
    fitted.push(one);
    if (one.unfinished > 0) {
      notes.push(
        `${model.name}: ${one.unfinished} of ${c.length} C had not converged after ${maxIterations} iterations`,
      );
    }
  }
  const report = await classificationReport(context, {
    task: 'logistic',
    pair,
    models: fitted.map(({ classified }) => classified),
    headline: perClass ? 'meanPerClass' : 'top1',
    settings: {
      c,
      maxIterations,
      tolerance: LOGISTIC_TOLERANCE,
      resize: context.crop,
      selection: selectOnTest ? 'test' : (selection?.source.path ?? 'a tenth of the training pictures'),
    },
    notes,
    startMs,
  });
  const figure: Figure = {
    kind: 'bars',
    title: `${context.models[0].name}: accuracy on the pictures that choose C`,
    unit: '%',
    bars: c.map((value, i) => ({ label: `C ${Number(value.toPrecision(3))}`, value: fitted[0].accuracies[i] })),
  };
  return { ...report, figures: [...report.figures, figure] };
}

async function fit(
  context: EvaluationContext,
  model: FrozenModel,
  m: number,
  request: LogisticRequest & { readonly c: readonly number[]; readonly maxIterations: number },
): Promise<Fitted> {
  const { pair, selection, selectOnTest, c, maxIterations, perClass } = request;
  const { gpu, crop } = context;
  // What is left out of a model's pictures is left out of all: it is said once.
  const once = { ...context, note: (text: string) => m === 0 && context.note(text) };
  const read = (source: ImageSource, what: string, labelOf?: (label: number) => number): Promise<GlobalFeatures> =>
    readGlobalFeatures(once, model, source, {
      lastBlocks: 1,
      patchMean: false,
      resize: crop,
      labelOf,
      what: `${model.name}: ${what} pictures`,
    });
  const ofLastBlock = ({ cls, dim, labels }: GlobalFeatures): Labelled => labelled(cls[0], dim, labels);
  const train = ofLastBlock(await read(pair.train, 'training'));
  const tested = await read(pair.test, 'test', pair.labelOf);
  const test = ofLastBlock(tested);
  let [learned, chosenOn, everything] = [train, test, train];
  if (selection) {
    chosenOn = ofLastBlock(await read(selection.source, 'selection', selection.labelOf));
    everything = joined(train, chosenOn);
  } else if (!selectOnTest) {
    const order = new TorchRandom(context.seed).permutation(train.labels.length);
    const count = Math.max(1, Math.floor(SELECTION_SHARE * order.length));
    learned = rowsAt(train, order.subarray(count));
    chosenOn = rowsAt(train, order.subarray(0, count));
  }
  if (learned.labels.length === 0) {
    throw new UsageError(`${pair.train.path} has ${train.labels.length} pictures: too few to choose C on some of them`);
  }

  const models = await fitLogistic(gpu, learned, {
    c,
    maxIterations,
    onProgress: (done) => context.progress(`${model.name}: ${c.length} values of C`, done, c.length),
  });
  const accuracies = await selectionAccuracies(context, models, chosenOn, perClass === true);
  // Of equal ones the first: the strongest penalty.
  const best = accuracies.indexOf(Math.max(...accuracies));
  let final = models[best];
  if (everything.labels.length > learned.labels.length) {
    const classes = [...new Set(everything.labels)].length;
    const start = classes === final.classes.length ? [final] : undefined;
    [final] = await fitLogistic(gpu, everything, { c: [c[best]], maxIterations, start });
  }

  const { classes } = final;
  const scores = new Float32Array(test.labels.length * pair.classes).fill(Number.NEGATIVE_INFINITY);
  await logisticScores(gpu, [final], test.features, (row, values) => {
    classes.forEach((label, k) => {
      scores[row * pair.classes + label] = values[k];
    });
  });
  const predictions = predictionsFromScores({
    scores,
    classes: pair.classes,
    labels: test.labels,
    indices: tested.indices,
    confidence: 'softmax',
    among: classes,
  });
  const measured = perClass ? 'selection mean per class %' : 'selection top1 %';
  const chosen = { C: Number(c[best].toPrecision(6)), [measured]: Number(accuracies[best].toFixed(2)) };
  return {
    classified: { model, predictions, chosen },
    accuracies,
    unfinished: models.filter(({ converged }) => !converged).length,
  };
}

function labelled(values: Float32Array, columns: number, labels: Int32Array): Labelled {
  return { values, labels, features: rowsOf(values, columns) };
}

function rowsAt({ values, features: { columns }, labels }: Labelled, rows: Uint32Array): Labelled {
  const some = new Float32Array(rows.length * columns);
  rows.forEach((row, i) => {
    some.set(values.subarray(row * columns, (row + 1) * columns), i * columns);
  });
  return labelled(
    some,
    columns,
    Int32Array.from(rows, (row) => labels[row]),
  );
}

function joined(a: Labelled, b: Labelled): Labelled {
  const values = new Float32Array(a.values.length + b.values.length);
  values.set(a.values);
  values.set(b.values, a.values.length);
  const labels = new Int32Array(a.labels.length + b.labels.length);
  labels.set(a.labels);
  labels.set(b.labels, a.labels.length);
  return labelled(values, a.features.columns, labels);
}

/** Percent right of each model: of all pictures, or the mean of the classes that the set has. */
async function selectionAccuracies(
  { gpu }: EvaluationContext,
  models: readonly LogisticModel[],
  { features, labels }: Labelled,
  perClass: boolean,
): Promise<number[]> {
  const { classes } = models[0];
  const right = models.map(() => new Map<number, number>());
  const counts = new Map<number, number>();
  await logisticScores(gpu, models, features, (row, scores) => {
    const label = labels[row];
    counts.set(label, (counts.get(label) ?? 0) + 1);
    for (let m = 0; m < models.length; m++) {
      let best = 0;
      for (let k = 1; k < classes.length; k++) {
        if (scores[m * classes.length + k] > scores[m * classes.length + best]) best = k;
      }
      if (classes[best] === label) right[m].set(label, (right[m].get(label) ?? 0) + 1);
    }
  });
  return right.map((hits) => {
    let sum = 0;
    for (const [label, count] of counts) {
      sum += (hits.get(label) ?? 0) * (perClass ? 100 / (count * counts.size) : 100 / labels.length);
    }
    return sum;
  });
}
