/**
 * The ground truth of the revisited Oxford and Paris buildings (Radenović et al., CVPR 2018; spec §6.7) as JSON: `imlist` and
 * `qimlist` name the pictures of database and queries, `gnd` has for each query the database places that show it `easy` or
 * `hard`, those that are neither right nor wrong (`junk`), and the part of the query picture that is meant (`bbx`).
 */

import { readFile } from 'node:fs/promises';
import type { Box } from '../data/cropped_source.js';
import { sampleKey } from '../data/labels.js';
import type { ImageSource } from '../data/source.js';
import { DataError } from '../errors.js';

export interface LandmarkQuery {
  /** Place in the source. */
  readonly picture: number;
  readonly box?: Box;
  /** Places in the database. */
  readonly easy: readonly number[];
  readonly hard: readonly number[];
  readonly junk: readonly number[];
}

export interface LandmarkTruth {
  /** [database]: places in the source. */
  readonly database: readonly number[];
  readonly queries: readonly LandmarkQuery[];
}

/** What counts as right, and what is taken out of the ranking, at each difficulty. */
export const DIFFICULTIES = {
  Easy: { right: ['easy'], junk: ['junk', 'hard'] },
  Medium: { right: ['easy', 'hard'], junk: ['junk'] },
  Hard: { right: ['hard'], junk: ['junk', 'easy'] },
} as const;
export type Difficulty = keyof typeof DIFFICULTIES;

/**
 * Reads the file and finds its pictures, by their names without folder and ending.
 * @throws DataError for a file that is something else, or names a picture that the source has not
 */
export async function readLandmarkTruth(path: string, source: ImageSource): Promise<LandmarkTruth> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'it is not valid JSON' : (error as Error).message;
    throw new DataError(`${path} cannot be read: ${reason}`, { cause: error });
  }
  const wrong = (what: string): DataError =>
    new DataError(`${path}: ${what}; imlist, qimlist and gnd of the revisited protocol are expected`);
  if (typeof parsed !== 'object' || parsed === null) throw wrong('it holds no object');
  const { imlist, qimlist, gnd } = parsed as Record<string, unknown>;
  if (!isStrings(imlist) || !isStrings(qimlist) || !Array.isArray(gnd)) throw wrong('a list is missing');
  if (gnd.length !== qimlist.length || qimlist.length === 0) {
    throw wrong(`${gnd.length} entries of gnd for ${qimlist.length} queries`);
  }
  const placeOf = new Map<string, number>();
  for (let i = 0; i < source.length; i++) placeOf.set(plainName(source.name(i)), i);
  const find = (name: string): number => {
    const place = placeOf.get(plainName(name));
    if (place === undefined) throw new DataError(`${path} names ${name}, which ${source.path} has not`);
    return place;
  };
  const queries = qimlist.map((name, q): LandmarkQuery => {
    const entry: unknown = gnd[q];
    if (typeof entry !== 'object' || entry === null) throw wrong(`entry ${q} of gnd is no object`);
    const fields = entry as Record<string, unknown>;
    const places = (field: string): number[] => {
      const list = fields[field] ?? [];
      if (!Array.isArray(list) || list.some((i) => !Number.isInteger(i) || i < 0 || i >= imlist.length)) {
        throw wrong(`${field} of ${name} is no list of places from 0 to ${imlist.length - 1}`);
      }
      return list as number[];
    };
    const { bbx } = fields;
    if (bbx !== undefined && bbx !== null && !(Array.isArray(bbx) && bbx.length === 4 && bbx.every(Number.isFinite))) {
      throw wrong(`bbx of ${name} is not [left, top, right, bottom]`);
    }
    return {
      picture: find(name),
      ...(bbx ? { box: bbx as unknown as Box } : {}),
      easy: places('easy'),
      hard: places('hard'),
      junk: places('junk'),
    };
  });
  return { database: imlist.map(find), queries };
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function plainName(path: string): string {
  const key = sampleKey(path);
  return key.slice(key.lastIndexOf('/') + 1);
}
