/** All classes that are right for a picture, from a file: the form of ImageNet-ReaL's labels, and one by names. */

import { readFile } from 'node:fs/promises';
import { DataError } from '../errors.js';
import type { LabelledPair } from './labelled_pair.js';

/**
 * Reads a JSON file: an array with a list of classes for each test picture in the source's order, or an object from picture
 * names to lists. A picture with an empty list, or none, does not count. Classes are numbered as the test set numbers its own.
 * @returns the classes of a test picture, in the training set's numbering
 * @throws DataError for a file that is something else, has another length, or names a class that there is not
 */
export async function readMultiLabels(
  path: string,
  { test, classes, labelOf }: Pick<LabelledPair, 'test' | 'classes' | 'labelOf'>,
): Promise<(index: number) => readonly number[]> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new DataError(`${path} cannot be read as JSON: ${(cause as Error).message}`, { cause });
  }
  const byIndex = (() => {
    if (Array.isArray(content)) {
      if (content.length === test.length) return (index: number): unknown => (content as unknown[])[index];
      throw new DataError(
        `${path} has classes of ${content.length} pictures; ${test.path} has ${test.length} pictures`,
      );
    }
    if (typeof content !== 'object' || content === null) {
      throw new DataError(`${path} holds no lists of classes: give an array, or an object by picture names`);
    }
    const byName = content as Record<string, unknown>;
    return (index: number): unknown => byName[test.name(index)] ?? [];
  })();
  const lists = Array.from({ length: test.length }, (_, index) => {
    const list = byIndex(index);
    if (!Array.isArray(list) || list.some((label) => !Number.isInteger(label))) {
      throw new DataError(`${path}: the classes of ${test.name(index)} are no list of whole numbers`);
    }
    return (list as number[]).map((label) => {
      const read = label < 0 ? -1 : labelOf(label);
      if (label >= 0 && !(read >= 0 && read < classes)) {
        throw new DataError(`${path}: ${test.name(index)} has the class ${label}, which the training set has not`);
      }
      return read;
    });
  });
  return (index) => lists[index];
}
