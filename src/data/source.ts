/**
 * Where pictures come from: a folder, a .zip or a .tar, with or without labels. A source is an index of names plus
 * random access to the encoded bytes; nothing is decoded or unpacked ahead.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DataError } from '../errors.js';
import {
  type Labels,
  labelsFromCls,
  labelsFromFolders,
  labelsFromTable,
  readClassNames,
  readLabelTable,
  sampleKey,
} from './labels.js';
import { CorruptPicture, type RgbImage } from './picture.js';
import { type Container, type Member, openFile, openTar } from './tar.js';
import { openZip } from './zip.js';

/** Encoded pictures by index. The order is that of the archive, or of the sorted paths of a folder. */
export interface ImageSource {
  /** The folder or archive it was opened from. */
  readonly path: string;
  readonly length: number;
  /** Index = label; present where classes have names. */
  readonly classNames?: readonly string[];
  /** The picture's path inside the source. */
  name(index: number): string;
  /** The class of the picture, an integer from 0; undefined where there is none. */
  label(index: number): number | undefined;
  /** The encoded bytes. Throws `CorruptPicture` if this one cannot be read. */
  read(index: number): Promise<Uint8Array>;
  /** The decoded picture, from sources that hold pixels instead of files. */
  pixels?(index: number): RgbImage;
  close(): Promise<void>;
}

/** Formats sharp decodes; compared without case. */
const PICTURE_EXTENSIONS = ['jpg', 'jpeg', 'png', 'webp', 'avif', 'tif', 'tiff', 'gif'];
const PICTURE = new RegExp(`\\.(${PICTURE_EXTENSIONS.join('|')})$`, 'i');

/** Whether a file's name ends as that of a picture that can be read. */
export function isPictureName(name: string): boolean {
  return PICTURE.test(name);
}

const GZIP_MAGIC = [0x1f, 0x8b];
const ZIP_MAGIC = [0x50, 0x4b];

/** Hidden files, and the resource forks macOS puts into zips. */
function isHidden(path: string): boolean {
  return path.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');
}

/** "4 .txt, 1 .bmp": what a source without pictures holds. */
function describeContents(paths: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const path of paths) {
    const extension = /\.[^./]+$/.exec(path)?.[0].toLowerCase() ?? 'without extension';
    counts.set(extension, (counts.get(extension) ?? 0) + 1);
  }
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4);
  return most.map(([extension, count]) => `${count} ${extension}`).join(', ');
}

/** `KEY.seg.png` beside `KEY.jpg` is a target of that sample, not a picture of its own. */
function dropTargets<M extends Member>(pictures: readonly M[]): M[] {
  const plain = (path: string) => path.slice(0, path.lastIndexOf('.'));
  const keys = new Set(pictures.map((member) => plain(member.path)));
  return pictures.filter(({ path }) => {
    const key = sampleKey(path);
    return key === plain(path) || !keys.has(key);
  });
}

class ContainerSource<M extends Member> implements ImageSource {
  readonly path: string;
  readonly length: number;
  readonly classNames?: readonly string[];
  readonly #container: Container<M>;
  readonly #pictures: readonly M[];
  readonly #labels: Labels | undefined;

  constructor(path: string, container: Container<M>, pictures: readonly M[], labels: Labels | undefined) {
    this.path = path;
    this.length = pictures.length;
    this.classNames = labels?.classNames;
    this.#container = container;
    this.#pictures = pictures;
    this.#labels = labels;
  }

  name(index: number): string {
    return this.#pictures[index].path;
  }

  label(index: number): number | undefined {
    return this.#labels?.labels[index];
  }

  read(index: number): Promise<Uint8Array> {
    return this.#container.read(this.#pictures[index]);
  }

  close(): Promise<void> {
    return this.#container.close();
  }
}

/** All files below `root` with forward slashes, sorted; links are followed, but no folder is entered twice. */
async function listFolder(root: string): Promise<Member[]> {
  const paths: string[] = [];
  const entered = new Set<string>();
  const walk = async (folder: string, prefix: string): Promise<void> => {
    const real = await realpath(folder);
    if (entered.has(real)) return;
    entered.add(real);
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (isHidden(entry.name)) continue;
      const full = join(folder, entry.name);
      // A dangling link is not there; it is left out like any other non-file.
      const kind = entry.isSymbolicLink() ? await stat(full).catch(() => undefined) : entry;
      if (kind?.isDirectory()) await walk(full, `${prefix}${entry.name}/`);
      else if (kind?.isFile()) paths.push(prefix + entry.name);
    }
  };
  await walk(root, '');
  return paths.sort().map((path) => ({ path }));
}

async function openFolder(root: string): Promise<Container<Member>> {
  return {
    members: await listFolder(root),
    read: async (member) => {
      try {
        return await readFile(join(root, member.path));
      } catch (error) {
        throw new CorruptPicture(member.path, `cannot be read (${systemReason(error)})`, { cause: error });
      }
    },
    close: async () => {},
  };
}

/** A system error's code in words; the code itself where it is a rare one. */
function systemReason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  if (code === 'ENOENT') return 'no such file or folder';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied';
  return code;
}

async function openArchive(path: string): Promise<Container<Member>> {
  const { handle, size } = await openFile(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    const startsWith = (magic: number[]) => bytesRead === 2 && magic.every((byte, i) => buffer[i] === byte);
    if (size === 0) throw new DataError(`${path} is empty (0 bytes)`);
    if (startsWith(GZIP_MAGIC)) {
      throw new DataError(`${path} is gzip-compressed, which cannot be read at random: unpack it with gunzip first`);
    }
    // By content, so that a wrong ending does no harm.
    const isZip = startsWith(ZIP_MAGIC) || path.toLowerCase().endsWith('.zip');
    if (!isZip && !path.toLowerCase().endsWith('.tar') && PICTURE.test(path)) {
      throw new DataError(`${path} is a single picture: give the folder it is in`);
    }
    return isZip ? await openZip(path, handle, size) : await openTar(path, handle, size);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The files of a folder (all below it), a .zip or a .tar, whatever they are; hidden ones of archives included.
 * @throws DataError if there is nothing there or it cannot be read
 */
export async function openContainer(path: string): Promise<{ container: Container<Member>; isFolder: boolean }> {
  try {
    const isFolder = (await stat(path)).isDirectory();
    return { container: isFolder ? await openFolder(path) : await openArchive(path), isFolder };
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${path} cannot be opened: ${systemReason(error)}`, { cause: error });
  }
}

/**
 * Opens a folder (searched recursively), a .zip or a .tar.
 *
 * Labels come from `KEY.cls` members, else from a csv of the archive's name beside it (columns `key`, `label`,
 * `class_name`), else from class folders; names of classes also from a `classes.json` beside the archive.
 * @throws DataError if there is nothing there, it cannot be read, or it holds no picture
 */
export async function openSource(path: string): Promise<ImageSource> {
  const { container, isFolder } = await openContainer(path);
  try {
    const visible = container.members.filter((member) => !isHidden(member.path));
    const found = visible.filter((member) => PICTURE.test(member.path));
    const pictures = isFolder ? found : dropTargets(found);
    if (pictures.length === 0) {
      const contents = visible.length === 0 ? 'it is empty' : `found ${describeContents(visible.map((m) => m.path))}`;
      throw new DataError(`no pictures in ${path}: ${contents}; pictures end in .${PICTURE_EXTENSIONS.join(' .')}`);
    }
    const labels = await findLabels(path, isFolder, container, visible, pictures);
    return new ContainerSource(path, container, pictures, labels);
  } catch (error) {
    await container.close();
    throw error;
  }
}

async function findLabels(
  path: string,
  isFolder: boolean,
  container: Container<Member>,
  members: readonly Member[],
  pictures: readonly Member[],
): Promise<Labels | undefined> {
  const names = pictures.map((member) => member.path);
  const clsTexts = new Map<string, string>();
  for (const member of members) {
    if (!/\.cls$/i.test(member.path)) continue;
    clsTexts.set(sampleKey(member.path), member.text ?? Buffer.from(await container.read(member)).toString('utf8'));
  }
  const beside = isFolder ? undefined : path.replace(/\.[^./\\]+$/, '');
  const table = beside === undefined ? undefined : await readLabelTable(`${beside}.csv`);
  const labels =
    labelsFromCls(basename(path), names, clsTexts) ??
    (table && labelsFromTable(names, table)) ??
    labelsFromFolders(names);
  if (!labels) return undefined;

  const listed = beside === undefined ? undefined : await readClassNames(join(dirname(path), 'classes.json'));
  const highest = labels.labels.reduce<number>((most, label) => Math.max(most, label ?? -1), -1);
  const classNames = [table?.classNames, listed, labels.classNames].find((list) => list && list.length > highest);
  return { labels: labels.labels, classNames };
}
