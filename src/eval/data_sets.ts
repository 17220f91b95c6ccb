/**
 * Which data sets lie in a folder, and what can be evaluated on each. A set is a sub-folder with parts `train` and `val` (or
 * `valid`, `validation`, `test`), each a folder, a .tar or a .zip, or one part `dev` with a csv of groups beside it. What a
 * set allows is read from its files: classes, KEY.seg.png, KEY.depth.png, KEY.chm.png, or the csv's columns.
 */

import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { parseCsv } from '../data/labels.js';
import { openContainer, openSource } from '../data/source.js';
import { DataError } from '../errors.js';

/** What a set has beside pictures. `groups`: pictures of one thing; `copies`: originals and changed copies of them. */
export type Annotation = 'classes' | 'labels' | 'depth' | 'height' | 'groups' | 'copies';

export interface DataSet {
  readonly name: string;
  /** Paths of the parts. */
  readonly train?: string;
  readonly test?: string;
  /** A part by itself, for retrieval. */
  readonly dev?: string;
  readonly annotations: ReadonlySet<Annotation>;
  /** Changes when the set's files do. */
  readonly stamp: string;
}

const TRAIN_NAMES = ['train', 'training'];
/** What a result is reported on, the first that is there: `test` is kept for the very end where there is a `val`. */
const TEST_NAMES = ['val', 'valid', 'validation', 'test'];
const DEV_NAMES = ['dev'];
const FORMS = ['', '.tar', '.zip'];

const TARGETS: readonly (readonly [Annotation, RegExp])[] = [
  ['labels', /\.seg\.(png|tiff?)$/i],
  ['depth', /\.depth\.(png|tiff?)$/i],
  ['height', /\.chm\.(png|tiff?)$/i],
];

/** Files that are targets of a picture of the same key, not pictures. */
export const TARGET_FILE = /\.(seg|depth|chm\d*)\.(png|tiff?)$/i;

/**
 * The sets in a folder, by name; the folder itself where it has the parts of one. Sub-folders that hold no part are left out.
 * @throws DataError if there is none
 */
export async function findDataSets(folder: string): Promise<DataSet[]> {
  let entries: readonly { readonly name: string; isDirectory(): boolean }[];
  try {
    entries = await readdir(folder, { withFileTypes: true });
  } catch (cause) {
    throw new DataError(`${folder} cannot be opened as a folder of data sets`, { cause });
  }
  const itself = await readSet(folder);
  if (itself) return [itself];
  const sets: DataSet[] = [];
  for (const name of entries.map((entry) => entry.name).sort()) {
    if (name.startsWith('.')) continue;
    const found = await stat(join(folder, name)).catch(() => undefined);
    const set = found?.isDirectory() ? await readSet(join(folder, name)) : undefined;
    if (set) sets.push(set);
  }
  if (sets.length === 0) {
    throw new DataError(
      `${folder} holds no data set: give each a sub-folder with train and val (folders, .tar or .zip), or dev.tar with dev.csv`,
    );
  }
  return sets;
}

async function readSet(folder: string): Promise<DataSet | undefined> {
  const names = new Set(await readdir(folder));
  const part = (candidates: readonly string[]): string | undefined => {
    const found = candidates.flatMap((name) => FORMS.map((form) => name + form)).find((name) => names.has(name));
    return found === undefined ? undefined : join(folder, found);
  };
  const [train, test, dev] = [part(TRAIN_NAMES), part(TEST_NAMES), part(DEV_NAMES)];
  const parts = [train, test, dev].filter((path) => path !== undefined);
  if (parts.length === 0) return undefined;
  const annotations = new Set<Annotation>();
  const stamps: string[] = [];
  // What heads learn from decides; a test part without it is an error that the task itself tells best.
  const main = train ?? test;
  for (const path of parts) {
    const { members, stamp } = await list(path);
    stamps.push(`${basename(path)} ${stamp}`);
    if (path !== main) continue;
    for (const [annotation, pattern] of TARGETS)
      if (members.some((name) => pattern.test(name))) annotations.add(annotation);
    if (annotations.size === 0 && (await hasClasses(path))) annotations.add('classes');
  }
  if (dev !== undefined) for (const annotation of await groupAnnotations(dev)) annotations.add(annotation);
  return { name: basename(resolve(folder)), train, test, dev, annotations, stamp: stamps.join('; ') };
}

async function list(path: string): Promise<{ members: string[]; stamp: string }> {
  const { container, isFolder } = await openContainer(path);
  try {
    const members = container.members.map((member) => member.path);
    const { size, mtimeMs } = await stat(path);
    return { members, stamp: isFolder ? `${members.length} files` : `${size} bytes ${Math.round(mtimeMs)}` };
  } finally {
    await container.close();
  }
}

/** Whether every picture has a class and there are at least two. */
async function hasClasses(path: string): Promise<boolean> {
  const source = await openSource(path);
  try {
    const labels = new Set(Array.from({ length: source.length }, (_, i) => source.label(i)));
    return labels.size > 1 && !labels.has(undefined);
  } finally {
    await source.close();
  }
}

/** From the csv beside an archive or folder: its columns `group` and `kind`. */
async function groupAnnotations(path: string): Promise<Annotation[]> {
  const text = await readFile(path.replace(/\.(tar|zip)$/i, '') + '.csv', 'utf8').catch(() => undefined);
  const [header = [], ...rows] = text === undefined ? [] : parseCsv(text);
  const [group, kind] = ['group', 'kind'].map((name) =>
    header.findIndex((field) => field.trim().toLowerCase() === name),
  );
  if (group < 0) return [];
  const kinds = new Set(rows.map((row) => (kind < 0 ? '' : (row[kind] ?? '').trim())));
  const annotations: Annotation[] = [];
  if ([...kinds].some((name) => name !== 'copy' && name !== 'distractor')) annotations.push('groups');
  if (kinds.has('copy')) annotations.push('copies');
  return annotations;
}
