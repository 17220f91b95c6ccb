/** Reading the options that `eval segment`, `eval depth` and `eval canopy` share. */

import { join } from 'node:path';
import { UsageError } from '../errors.js';
import { FEATURES } from '../eval/dense_training.js';
import type { PixelRequest } from '../eval/pixel_evaluation.js';
import { type PixelTask, PROTOCOLS } from '../eval/pixel_head.js';
import type { EvaluationArguments } from './evaluation.js';
import { positiveInteger, required } from './model.js';

/** As the command line gives them. */
export interface PixelArguments extends EvaluationArguments {
  readonly trainTargets?: string;
  readonly testTargets?: string;
  readonly split?: string | number;
  readonly protocol?: string;
  readonly features?: string;
  readonly iterations?: string | number;
  readonly headLr?: string | number;
  readonly headBatch?: string | number;
  /** "160" or "128x160", height first. */
  readonly crop?: string | number;
  readonly shorterSide?: string | number;
  readonly channels?: string | number;
}

/** A positive number, or undefined. @throws UsageError for anything else */
export function positiveNumber(option: string, value: string | number | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!(number > 0 && Number.isFinite(number)) || value === '') {
    throw new UsageError(`${option} takes a number above 0, not ${JSON.stringify(value)}`);
  }
  return number;
}

/** One of a list of words. @throws UsageError for anything else */
export function oneOf<T extends string>(option: string, value: string | undefined, words: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const word = words.find((one) => one === value);
  if (word === undefined) throw new UsageError(`${option} ${value} is unknown; use ${words.join(', ')}`);
  return word;
}

/** @throws UsageError for an option that cannot be */
export function pixelRequest<T extends PixelTask>(
  task: T,
  options: PixelArguments,
): PixelRequest & { readonly protocol?: (typeof PROTOCOLS)[T][number] } {
  const split = positiveNumber('--split', options.split);
  if (split !== undefined && split >= 1)
    throw new UsageError(`--split ${split}: a share below 1 of the training pictures`);
  if (split !== undefined && options.test !== undefined) {
    throw new UsageError('--split and --test: give one of them');
  }
  return {
    train: required('--train', options.train),
    test: options.test,
    trainTargets: options.trainTargets,
    testTargets: options.testTargets,
    split,
    protocol: oneOf<(typeof PROTOCOLS)[T][number]>('--protocol', options.protocol, PROTOCOLS[task]),
    features: oneOf('--features', options.features, FEATURES),
    iterations: positiveInteger('--iterations', options.iterations),
    headLearningRate: positiveNumber('--head-lr', options.headLr),
    headBatch: positiveInteger('--head-batch', options.headBatch),
    crop: cropOf(options.crop),
    shorterSide: positiveInteger('--shorter-side', options.shorterSide),
    channels: positiveInteger('--channels', options.channels),
    headFile: options.out === undefined ? undefined : join(options.out, 'head.safetensors'),
  };
}

function cropOf(value: string | number | undefined): [number, number] | undefined {
  if (value === undefined) return undefined;
  const sides = String(value).split('x').map(Number);
  const [height, width = height] = sides;
  if (sides.length > 2 || ![height, width].every((side) => Number.isInteger(side) && side >= 1)) {
    throw new UsageError(`--crop takes a side in pixels or HEIGHTxWIDTH, not ${JSON.stringify(value)}`);
  }
  return [height, width];
}
