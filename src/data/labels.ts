/**
 * Where labels come from: `.cls` members and a `.csv` beside an archive (webdataset style), or class folders
 * (ImageFolder style). Each returns one label a picture; pictures without one are `undefined`.
 */
import { readFile } from 'node:fs/promises';
import { DataError } from '../errors.js';

/** Labels of the pictures of a source, and the classes' names where they are known. */
export interface Labels {
  readonly labels: readonly (number | undefined)[];
  readonly classNames?: readonly string[];
}

/** `folder/KEY.seg.png` → `folder/KEY`: webdataset's key ends before the first dot of the last component. */
export function sampleKey(path: string): string {
  const name = path.lastIndexOf('/') + 1;
  const dot = path.indexOf('.', name);
  return dot < 0 ? path : path.slice(0, dot);
}

/** Rows of a csv (RFC 4180: quoted fields may hold commas, line ends and doubled quotes). */
export function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = '';
  let quoted = false;
  const endRow = () => {
    row.push(field);
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
    field = '';
  };
  for (let i = text.charCodeAt(0) === 0xfeff ? 1 : 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[i + 1] === '"') field += text[++i];
      else quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === ',') {
      row.push(field);
      field = '';
    } else if (c === '\n') endRow();
    else if (c !== '\r') field += c;
  }
  if (field !== '' || row.length > 0) endRow();
  return rows;
}

function parseLabel(text: string, where: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  const label = Number(trimmed);
  if (!Number.isInteger(label) || label < 0) {
    throw new DataError(`${where}: "${trimmed.slice(0, 40)}" is not a label; labels are integers from 0`);
  }
  return label;
}

/** Labels from the texts of `KEY.cls` members; `undefined` if no picture has one. */
export function labelsFromCls(
  archive: string,
  pictures: readonly string[],
  texts: ReadonlyMap<string, string>,
): Labels | undefined {
  const labels = pictures.map((path) => {
    const key = sampleKey(path);
    const text = texts.get(key);
    return text === undefined ? undefined : parseLabel(text, `${archive}, ${key}.cls`);
  });
  return labels.some((label) => label !== undefined) ? { labels } : undefined;
}

/** A csv with a header: which sample has which label, and which label has which class name. */
export interface LabelTable {
  readonly byKey: ReadonlyMap<string, number>;
  readonly classNames?: readonly string[];
}

/**
 * Reads the columns `key` (or `file`), `label` and, if there, `class_name` of a csv.
 * @returns undefined if there is no such file, or it has no label column
 * @throws DataError if a label is not a non-negative integer
 */
export async function readLabelTable(path: string): Promise<LabelTable | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const [header, ...rows] = parseCsv(text);
  if (!header) return undefined;
  const column = (name: string) => header.findIndex((field) => field.trim().toLowerCase() === name);
  const keyColumn = column('key') >= 0 ? column('key') : column('file');
  const labelColumn = column('label');
  const nameColumn = column('class_name');
  if (keyColumn < 0 || labelColumn < 0) return undefined;
  const byKey = new Map<string, number>();
  const names: string[] = [];
  for (const [i, row] of rows.entries()) {
    const label = parseLabel(row[labelColumn] ?? '', `${path}, row ${i + 2}`);
    if (label === undefined) continue;
    byKey.set(sampleKey(row[keyColumn] ?? ''), label);
    if (nameColumn >= 0) names[label] = row[nameColumn] ?? '';
  }
  return { byKey, classNames: names.length > 0 ? fillNames(names) : undefined };
}

/** Classes that no picture belongs to are named by their number. */
function fillNames(names: readonly (string | undefined)[]): string[] {
  return Array.from(names, (name, label) => name ?? String(label));
}

/** Labels from a csv's rows; `undefined` if no picture has one. */
export function labelsFromTable(pictures: readonly string[], table: LabelTable): Labels | undefined {
  const labels = pictures.map((path) => {
    const key = sampleKey(path);
    return table.byKey.get(key) ?? table.byKey.get(key.slice(key.lastIndexOf('/') + 1));
  });
  return labels.some((label) => label !== undefined) ? { labels, classNames: table.classNames } : undefined;
}

/** A list of class names in `classes.json` (strings, or objects with a `name`); the index is the label. */
export async function readClassNames(path: string): Promise<readonly string[] | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new DataError(`${path} is not valid JSON`, { cause: error });
  }
  if (!Array.isArray(list)) return undefined;
  const names = list.map((entry: unknown) => {
    if (typeof entry === 'string') return entry;
    if (typeof entry === 'object' && entry !== null && 'name' in entry) return String(entry.name);
    return undefined;
  });
  return names.every((name) => name !== undefined) ? names : undefined;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new DataError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Folder names of the parts of a set; a folder of this name is no class. */
const SPLITS = new Set(['train', 'training', 'val', 'valid', 'validation', 'test', 'dev']);

/** `3_cat`: a class folder that says its label. */
const NUMBERED = /^(\d+)_(.+)$/;

/**
 * Labels from class folders. Leading folders that all pictures share are ignored, and so is a level of train / val /
 * test folders. The first folder below is the class: its label is the integer of `<int>_<name>` if all class folders
 * are named so, otherwise its place among the sorted names. Pictures outside any folder: no labels.
 */
export function labelsFromFolders(pictures: readonly string[]): Labels | undefined {
  const folders = pictures.map((path) => path.split('/').slice(0, -1));
  let level = 0;
  for (;;) {
    const first = folders[0][level];
    if (first === undefined || NUMBERED.test(first) || !folders.every((parts) => parts[level] === first)) break;
    level++;
  }
  if (folders.every((parts) => parts.length > level + 1 && SPLITS.has(parts[level].toLowerCase()))) level++;
  if (folders.some((parts) => parts.length <= level)) return undefined;

  const names = [...new Set(folders.map((parts) => parts[level]))].sort();
  const numbers = names.map((name) => NUMBERED.exec(name));
  const numbered =
    numbers.every((match) => match !== null) && new Set(numbers.map((m) => Number(m?.[1]))).size === names.length;
  const labelOf = new Map<string, number>();
  const classNames: string[] = [];
  for (const [i, name] of names.entries()) {
    const match = numbered ? numbers[i] : null;
    const label = match ? Number(match[1]) : i;
    labelOf.set(name, label);
    classNames[label] = match ? match[2] : name;
  }
  return { labels: folders.map((parts) => labelOf.get(parts[level])), classNames: fillNames(classNames) };
}
