/** The tasks of `webdino eval all`, each with the settings it has there. */

import { DataError } from '../errors.js';
import type { SetTask } from './all.js';
import { evaluateCanopy } from './canopy.js';
import { evaluateCopy } from './copy_detection.js';
import type { Annotation, DataSet } from './data_sets.js';
import { evaluateDepth } from './depth.js';
import { evaluateKnn } from './knn_evaluation.js';
import { type LabelledPair, openLabelledPair } from './labelled_pair.js';
import { evaluateLinear } from './linear.js';
import { BASE_RATES } from './linear_heads.js';
import { evaluateLogistic, type LogisticRequest } from './logistic.js';
import type { PixelRequest } from './pixel_evaluation.js';
import type { EvaluationReport } from './result.js';
import { evaluateRetrieval } from './retrieval.js';
import { evaluateSegment } from './segment.js';
import type { EvaluationContext } from './task.js';

/** Share of the training pictures that choose a linear head, so that test pictures only judge it. */
const LINEAR_HOLD_OUT = 0.1;

/** What depends on how long it may take; what is left out is a task's own default. */
interface Effort {
  readonly linear: { readonly iterations?: number; readonly baseRates: readonly number[] };
  readonly logistic: Pick<LogisticRequest, 'c' | 'maxIterations'>;
  readonly pixels: Pick<PixelRequest, 'iterations'>;
}

const FULL: Effort = { linear: { baseRates: BASE_RATES.official }, logistic: {}, pixels: {} };

/** To see whether all works. */
const QUICK: Effort = {
  linear: { iterations: 100, baseRates: [1e-3, 1e-2, 1e-1] },
  logistic: { c: [1e-2, 1, 1e2], maxIterations: 100 },
  pixels: { iterations: 60 },
};

/** In the order in which a set's results are shown. */
export function standardTasks(quick: boolean): SetTask[] {
  const { linear, logistic, pixels } = quick ? QUICK : FULL;
  return [
    {
      name: 'knn',
      on: 'classes',
      settings: {},
      run: (context, set) => withPair(set, (pair) => evaluateKnn(context, { pair })),
    },
    {
      name: 'linear',
      on: 'classes',
      settings: { ...linear, holdOut: LINEAR_HOLD_OUT },
      run: (context, set) =>
        withPair(set, (pair) => evaluateLinear(context, { pair, ...linear, holdOut: LINEAR_HOLD_OUT, augment: false })),
    },
    {
      name: 'logistic',
      on: 'classes',
      settings: logistic,
      run: (context, set) => withPair(set, (pair) => evaluateLogistic(context, { pair, ...logistic })),
    },
    pixelTask('segment', 'labels', { ...pixels, protocol: 'linear' }, evaluateSegment),
    pixelTask('depth', 'depth', { ...pixels, protocol: 'linear4' }, evaluateDepth),
    pixelTask('canopy', 'height', { ...pixels, protocol: 'linear4' }, evaluateCanopy),
    {
      name: 'retrieval',
      on: 'groups',
      settings: {},
      run: (context, set) => evaluateRetrieval(context, { data: part(set, 'dev') }),
    },
    {
      name: 'copy',
      on: 'copies',
      settings: {},
      run: (context, set) => evaluateCopy(context, { data: part(set, 'dev') }),
    },
  ];
}

/** Heads on pixels; a set without a test part is split by the task. */
function pixelTask<Request extends PixelRequest>(
  name: string,
  on: Annotation,
  settings: Omit<Request, 'train' | 'test' | 'features'>,
  evaluate: (context: EvaluationContext, request: Request) => Promise<EvaluationReport>,
): SetTask {
  return {
    name,
    on,
    settings: { ...settings },
    run: (context, set) =>
      evaluate(context, {
        ...settings,
        train: part(set, 'train'),
        test: set.test,
        // A network on the CPU is too slow to go through anew in every step.
        features: context.gpu.capabilities.software ? 'cached' : 'end-to-end',
      } as Request),
  };
}

/** @throws DataError for a set without one of its parts */
function part(set: DataSet, name: 'train' | 'test' | 'dev'): string {
  const path = set[name];
  if (path === undefined) throw new DataError(`${set.name} has no ${name === 'test' ? 'val or test' : name} part`);
  return path;
}

async function withPair(
  set: DataSet,
  body: (pair: LabelledPair) => Promise<EvaluationReport>,
): Promise<EvaluationReport> {
  const pair = await openLabelledPair(part(set, 'train'), part(set, 'test'));
  try {
    return await body(pair);
  } finally {
    await pair.close();
  }
}
