/** Which pictures show the same: a csv beside an archive (webdataset style), or class folders. */

import { readFile } from 'node:fs/promises';
import { parseCsv, sampleKey } from '../data/labels.js';
import type { ImageSource } from '../data/source.js';
import { DataError } from '../errors.js';

/** What is known of a picture; empty where it is not. */
export interface GroupedPicture {
  /** Pictures of one group are each other's matches. */
  readonly group: string;
  /** What kind of match: `place`, `product`, `copy`. */
  readonly kind: string;
  /** `query`, `ref`, `distractor`. */
  readonly role: string;
  /** How a copy was made. */
  readonly transform: string;
}

/**
 * One entry a picture, in the source's order: from the columns `key`, `group` and, where they are there, `kind`, `role` and
 * `transform` of a csv; without a csv from class folders.
 * @param table the csv; default: that of the archive's name beside it
 * @throws DataError if neither is there, a column is missing, or a picture has no row
 */
export async function readPictureGroups(source: ImageSource, table?: string): Promise<GroupedPicture[]> {
  const path = table ?? `${source.path.replace(/\.(tar|zip)$/i, '')}.csv`;
  const text = await textOf(path);
  const places = Array.from({ length: source.length }, (_, i) => i);
  if (text === undefined) {
    if (table === undefined && places.every((i) => source.label(i) !== undefined)) {
      return places.map((i) => ({ group: String(source.label(i)), kind: '', role: '', transform: '' }));
    }
    throw new DataError(
      `${path} is not there: give a csv with the columns key and group (and kind, role, transform), or a folder for each group`,
    );
  }
  const [header = [], ...rows] = parseCsv(text);
  const column = (name: string): number => header.findIndex((field) => field.trim().toLowerCase() === name);
  const [key, group, kind, role, transform] = ['key', 'group', 'kind', 'role', 'transform'].map(column);
  if (key < 0 || group < 0) {
    throw new DataError(`${path} has the columns ${header.join(', ') || 'of no header'}; key and group are needed`);
  }
  const field = (row: readonly string[], at: number): string => (at < 0 ? '' : (row[at] ?? '').trim());
  const byKey = new Map(
    rows.map((row): [string, GroupedPicture] => [
      sampleKey(field(row, key)),
      { group: field(row, group), kind: field(row, kind), role: field(row, role), transform: field(row, transform) },
    ]),
  );
  const entries = places.map((i) => {
    const name = sampleKey(source.name(i));
    return byKey.get(name) ?? byKey.get(name.slice(name.lastIndexOf('/') + 1));
  });
  const missing = places.filter((i) => !entries[i]);
  if (missing.length > 0) {
    throw new DataError(
      `${path} has no row for ${missing.length} of ${source.length} pictures (${source.name(missing[0])})`,
    );
  }
  return entries as GroupedPicture[];
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined;
    throw new DataError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}
