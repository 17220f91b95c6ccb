/**
 * Pictures with a value for every pixel: labels (segmentation), depth, heights.
 *
 * A sample is KEY.jpg (png, webp, tif) with KEY.seg.png, KEY.depth.png or KEY.chm.png in one folder or archive, or a picture in
 * one folder and a target of the same path in another. Targets:
 * - labels: 8-bit grey or palette PNG, or TIFF; 255 is ignored
 * - depth: 16-bit PNG in parts of a metre (`depthDivisor` of them, 0: not measured), or TIFF in metres
 * - height: 16-bit PNG in centimetres (65535: no data), or TIFF in metres with its no-data value
 * A target may be coarser or finer than its picture, as heights are, but shows the same frame: its sides have the ratio of the
 * picture's to the pixel.
 */
import { basename, dirname, join } from 'node:path';
import sharp from 'sharp';
import { DataError } from '../errors.js';
import { GeoTiff } from '../io/geotiff.js';
import { decodeRgb } from './decode.js';
import { readClassNames } from './labels.js';
import { hasPalette, paletteIndices } from './palette_png.js';
import { CorruptPicture, type RgbImage } from './picture.js';
import { openContainer } from './source.js';
import type { Container, Member } from './tar.js';

export type TargetKind = 'labels' | 'depth' | 'height';

/** Label of pixels that do not count. */
export const IGNORED = 255;

/** A value a pixel, [height, width]: labels as u8 (255: ignored), or metres as float32 (NaN: not measured). */
export interface TargetMap<V extends Uint8Array | Float32Array = Uint8Array | Float32Array> {
  readonly width: number;
  readonly height: number;
  readonly values: V;
}

export interface DensePair {
  readonly name: string;
  readonly picture: RgbImage;
  readonly target: TargetMap;
}

/** Pairs by index, in the order of the archive or of the sorted paths. */
export interface DenseSource {
  readonly path: string;
  readonly kind: TargetKind;
  readonly length: number;
  /** Labels: the classes' names where a classes.json gives them. */
  readonly classNames?: readonly string[];
  /** Pictures without a target, and targets without a picture. */
  readonly unpaired: number;
  name(index: number): string;
  /**
   * Both, decoded.
   * @throws CorruptPicture if either cannot be decoded; DataError for a target of another frame or a label out of range
   */
  read(index: number): Promise<DensePair>;
  close(): Promise<void>;
}

export interface DenseSourceOptions {
  /** Folder or archive of the pictures, with the targets in it unless `targets` is given. */
  readonly path: string;
  /** Folder or archive of the targets, each under its picture's path. */
  readonly targets?: string;
  readonly kind: TargetKind;
  /** A classes.json; default: the one in the folder, or beside the archive. */
  readonly classes?: string;
  /** Label 0 is ignored and the others count from 0, as in ADE20K's own files. */
  readonly reduceZeroLabel?: boolean;
  /** Depth PNGs: values of a metre. 1000 by default; 256 for KITTI. */
  readonly depthDivisor?: number;
}

const SUFFIX: Record<TargetKind, string> = { labels: 'seg', depth: 'depth', height: 'chm' };
const PICTURE_FILE = /\.(jpe?g|png|webp|tiff?)$/i;
const TARGET_FILE = /\.(png|tiff?)$/i;
const NO_HEIGHT = 65535;
const CENTIMETRES = 100;

/**
 * Opens the pairs of a folder or archive.
 * @throws DataError if there is none
 */
export async function openDenseSource(options: DenseSourceOptions): Promise<DenseSource> {
  const { path, targets, kind } = options;
  const opened: Container<Member>[] = [];
  try {
    const pictures = await openContainer(path);
    opened.push(pictures.container);
    const beside = targets === undefined ? pictures : await openContainer(targets);
    if (targets !== undefined) opened.push(beside.container);
    const suffix = new RegExp(`\\.${SUFFIX[kind]}$`, 'i');
    const anySuffix = /\.(seg|depth|chm\d*)$/i;
    const targetOf = new Map<string, Member>();
    for (const member of visible(beside.container.members)) {
      if (!TARGET_FILE.test(member.path)) continue;
      const stem = member.path.replace(TARGET_FILE, '');
      if (suffix.test(stem)) targetOf.set(stem.replace(suffix, ''), member);
      else if (targets !== undefined && !targetOf.has(stem)) targetOf.set(stem, member);
    }
    const found = visible(pictures.container.members).filter(
      (member) => PICTURE_FILE.test(member.path) && !anySuffix.test(member.path.replace(PICTURE_FILE, '')),
    );
    const pairs = found.flatMap((picture) => {
      const target = targetOf.get(picture.path.replace(PICTURE_FILE, ''));
      return target ? [{ picture, target }] : [];
    });
    if (pairs.length === 0) {
      const where = targets === undefined ? '' : ` in ${targets}`;
      const wanted = `KEY.${SUFFIX[kind]}.png${targets === undefined ? '' : ' or KEY.png'}`;
      throw new DataError(
        `${path} has no picture with ${kind}: of ${found.length} pictures and ${targetOf.size} targets${where} none ` +
          `belong together; a picture KEY.jpg goes with ${wanted}`,
      );
    }
    const classNames = kind === 'labels' ? await findClasses(options, pictures.isFolder) : undefined;
    return {
      path,
      kind,
      length: pairs.length,
      classNames,
      unpaired: found.length + targetOf.size - 2 * pairs.length,
      name: (index) => pairs[index].picture.path,
      read: async (index) => {
        const { picture, target } = pairs[index];
        const [pixels, map] = await Promise.all([
          pictures.container.read(picture).then((bytes) => readPicture(bytes, picture.path)),
          beside.container.read(target).then((bytes) => readTarget(bytes, target.path, options)),
        ]);
        assertSameFrame(pixels, map, picture.path, target.path);
        if (classNames) assertLabels(map, classNames.length, target.path);
        return { name: picture.path, picture: pixels, target: map };
      },
      close: async () => {
        for (const container of opened) await container.close();
      },
    };
  } catch (error) {
    for (const container of opened) await container.close();
    throw error;
  }
}

function visible(members: readonly Member[]): Member[] {
  return members.filter(({ path }) => !path.split('/').some((part) => part.startsWith('.') || part === '__MACOSX'));
}

async function findClasses(
  { path, classes }: DenseSourceOptions,
  isFolder: boolean,
): Promise<readonly string[] | undefined> {
  if (classes !== undefined) {
    const names = await readClassNames(classes);
    if (!names) throw new DataError(`${classes} is no list of class names: a JSON array of strings, one a label`);
    return names;
  }
  const inside = isFolder ? await readClassNames(join(path, 'classes.json')) : undefined;
  return inside ?? (await readClassNames(join(dirname(path), 'classes.json')));
}

async function readPicture(bytes: Uint8Array, name: string): Promise<RgbImage> {
  if (!/\.tiff?$/i.test(name)) return decodeRgb(bytes, name);
  const file = await GeoTiff.of(bytes, name);
  try {
    return { width: file.width, height: file.height, data: await file.rgb() };
  } finally {
    await file.close();
  }
}

/** @throws CorruptPicture if it cannot be decoded; DataError if it is not of the kind */
async function readTarget(
  bytes: Uint8Array,
  name: string,
  { kind, reduceZeroLabel = false, depthDivisor = 1000 }: DenseSourceOptions,
): Promise<TargetMap> {
  if (bytes.length === 0) throw new CorruptPicture(name, 'is empty (0 bytes)');
  if (/\.tiff?$/i.test(name)) {
    const file = await GeoTiff.of(bytes, name);
    try {
      const { width, height } = file;
      const values = await file.band();
      if (kind !== 'labels') return { width, height, values: values.map((value) => measured(value, kind)) };
      return { width, height, values: labels(values, reduceZeroLabel, name) };
    } finally {
      await file.close();
    }
  }
  if (kind === 'labels' && hasPalette(bytes)) {
    const { width, height, data } = paletteIndices(bytes, name);
    return { width, height, values: labels(data, reduceZeroLabel, name) };
  }
  const wide = kind !== 'labels';
  try {
    const picture = sharp(bytes, { failOn: 'error', ignoreIcc: true });
    const { depth, channels } = await picture.metadata();
    if (channels !== 1 || depth !== (wide ? 'ushort' : 'uchar')) {
      throw new DataError(
        `${name} has ${channels} channels of type ${depth}; ${kind} are one channel of ${wide ? 16 : 8} bits`,
      );
    }
    // Without these colour spaces sharp would turn 16 bits into 8, and grey into RGB.
    const { data, info } = await picture
      .toColourspace(wide ? 'grey16' : 'b-w')
      .raw({ depth: wide ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { width, height } = info;
    if (!wide) return { width, height, values: labels(data, reduceZeroLabel, name) };
    const units = new Uint16Array(Uint8Array.from(data).buffer);
    const values = Float32Array.from(units, (unit) =>
      kind === 'depth'
        ? measured(unit === 0 ? Number.NaN : unit / depthDivisor, kind)
        : unit === NO_HEIGHT
          ? Number.NaN
          : unit / CENTIMETRES,
    );
    return { width, height, values };
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new CorruptPicture(name, `cannot be decoded (${(error as Error).message.split('\n')[0]})`, { cause: error });
  }
}

/** A depth of zero and less is none; the reader of TIFFs gives NaN for infinities. */
function measured(value: number, kind: TargetKind): number {
  return kind === 'depth' && !(value > 0) ? Number.NaN : value;
}

function labels(values: ArrayLike<number>, reduceZeroLabel: boolean, name: string): Uint8Array {
  return Uint8Array.from(values, (value) => {
    if (Number.isNaN(value)) return IGNORED;
    if (!Number.isInteger(value) || value < 0 || value > IGNORED) {
      throw new DataError(`${name} holds ${value}, which is no label: labels are 0 to 254, and 255 for ignored pixels`);
    }
    if (!reduceZeroLabel) return value;
    return value === 0 || value === IGNORED ? IGNORED : value - 1;
  });
}

/** @throws DataError unless the sides have the same ratio, to the pixel */
function assertSameFrame(picture: RgbImage, target: TargetMap, pictureName: string, targetName: string): void {
  const { width: W, height: H } = picture;
  const { width: w, height: h } = target;
  if (Math.round((w * H) / W) === h || Math.round((h * W) / H) === w) return;
  throw new DataError(
    `${targetName} is ${w} x ${h} and ${basename(pictureName)} ${W} x ${H}: they do not show the same frame; ` +
      'cut both to one',
  );
}

function assertLabels({ values }: TargetMap, classes: number, name: string): void {
  for (const value of values) {
    if (value >= classes && value !== IGNORED) {
      throw new DataError(
        `${name} holds the label ${value}, but there are ${classes} classes (0 to ${classes - 1}): ` +
          'name all of them in classes.json, or mark such pixels with 255',
      );
    }
  }
}

/** Pixels that count. */
export function measuredPixels({ values }: TargetMap): number {
  let count = 0;
  if (values instanceof Uint8Array) for (const value of values) count += Number(value !== IGNORED);
  else for (const value of values) count += Number(!Number.isNaN(value));
  return count;
}

/** The target at another size, nearest neighbour: labels cannot be mixed, and measurements have holes. */
export function resizeTarget<V extends Uint8Array | Float32Array>(
  { width: w, height: h, values }: TargetMap<V>,
  width: number,
  height: number,
): TargetMap<V> {
  if (w === width && h === height) return { width, height, values };
  const out = values.slice(0, 0).constructor as new (length: number) => V;
  const resized = new out(width * height);
  const columns = Uint32Array.from({ length: width }, (_, x) => Math.floor(((x + 0.5) * w) / width));
  for (let y = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * h) / height) * w;
    for (let x = 0; x < width; x++) resized[y * width + x] = values[row + columns[x]];
  }
  return { width, height, values: resized };
}

/** Some of a source's pairs as a source; closing it closes the whole. */
export function selectPairs(source: DenseSource, indices: readonly number[]): DenseSource {
  return {
    ...source,
    length: indices.length,
    name: (index) => source.name(indices[index]),
    read: (index) => source.read(indices[index]),
  };
}
