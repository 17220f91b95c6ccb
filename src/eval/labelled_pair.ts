/** Two labelled sources that speak of the same classes: what a classifier learns from, and what it is judged on. */

import { openDataset } from '../data/mnist_source.js';
import type { ImageSource } from '../data/source.js';
import { DataError } from '../errors.js';

export interface LabelledPair {
  readonly train: ImageSource;
  readonly test: ImageSource;
  /** How a label of the test set reads in the training set. */
  readonly labelOf: (testLabel: number) => number;
  /** The largest label of the training set + 1: columns of a classifier's scores. */
  readonly classes: number;
  /** [classes], by training label; numbers where the source knows no names. */
  readonly classNames: readonly string[];
  close(): Promise<void>;
}

/**
 * Opens a source all of whose pictures have a class.
 * @param option the command line's name for it, for the error
 * @throws DataError if any has none
 */
export async function openLabelled(path: string, option: string): Promise<ImageSource> {
  const source = await openDataset(path);
  const without = Array.from({ length: source.length }, (_, i) => i).filter((i) => source.label(i) === undefined);
  if (without.length === 0) return source;
  await source.close();
  const count =
    without.length === source.length ? 'its pictures have' : `${without.length} of its ${source.length} pictures have`;
  throw new DataError(
    `${option} ${path}: ${count} no class (${source.name(without[0])}): ` +
      'put each class in a folder of its own, or give KEY.cls members or a csv beside an archive',
  );
}

/**
 * Opens both sources.
 * @param options the command line's names for them, for errors
 * @throws DataError if a picture has no class, or the test set has a class that the training set has not
 */
export async function openLabelledPair(
  trainPath: string,
  testPath: string,
  options: readonly [string, string] = ['--train', '--test'],
): Promise<LabelledPair> {
  const train = await openLabelled(trainPath, options[0]);
  try {
    const test = await openLabelled(testPath, options[1]);
    try {
      return labelledPair(train, test);
    } catch (error) {
      await test.close();
      throw error;
    }
  } catch (error) {
    await train.close();
    throw error;
  }
}

/** The pair of two open sources, which it closes with itself. @throws DataError as `commonLabels` */
export function labelledPair(train: ImageSource, test: ImageSource): LabelledPair {
  const labelOf = commonLabels(train, test);
  let classes = 0;
  for (let i = 0; i < train.length; i++) classes = Math.max(classes, train.label(i)! + 1);
  return {
    train,
    test,
    labelOf,
    classes,
    classNames: Array.from({ length: classes }, (_, label) => train.classNames?.[label] ?? String(label)),
    close: async () => {
      await Promise.all([train.close(), test.close()]);
    },
  };
}

/**
 * How labels of the test set read in the training set: as they are, or by class name where both sources number their classes
 * differently (a test folder that lacks a class shifts the numbers after it).
 * @throws DataError for classes that the training set does not have
 */
export function commonLabels(train: ImageSource, test: ImageSource): (label: number) => number {
  const trained = new Set(Array.from({ length: train.length }, (_, i) => train.label(i)!));
  const tested = [...new Set(Array.from({ length: test.length }, (_, i) => test.label(i)!))].sort((a, b) => a - b);
  const [trainNames, testNames] = [train.classNames, test.classNames];
  let labelOf = (label: number): number => label;
  if (trainNames && testNames && tested.some((label) => trainNames[label] !== testNames[label])) {
    labelOf = (label) => trainNames.indexOf(testNames[label]);
    const ambiguous = tested.find(
      (label) => trainNames.indexOf(testNames[label]) !== trainNames.lastIndexOf(testNames[label]),
    );
    if (ambiguous !== undefined) {
      throw new DataError(
        `${train.path} and ${test.path} number their classes differently, and "${testNames[ambiguous]}" names several: ` +
          'give both the same class folders',
      );
    }
  }
  const strangers = tested.filter((label) => !trained.has(labelOf(label)));
  if (strangers.length > 0) {
    const named = strangers.slice(0, 3).map((label) => (testNames ? `"${testNames[label]}"` : String(label)));
    const more = strangers.length > 3 ? ', ...' : '';
    throw new DataError(
      `${test.path} has ${strangers.length} of ${tested.length} classes that ${train.path} has not: ${named.join(', ')}${more}`,
    );
  }
  return labelOf;
}

/** What people call the data: the folder that holds its parts, or the source's own name where that says more. */
export function datasetName(path: string): string {
  const parts = path.split(/[/\\]/).filter((part) => part !== '' && part !== '.');
  const own = (parts.at(-1) ?? path).replace(/\.(tar|zip|tgz|tar\.gz)$/i, '');
  const isPart = /^(train|training|val|valid|validation|test|testing|dev)$/i.test(own);
  return isPart && parts.length > 1 ? parts[parts.length - 2] : own;
}
