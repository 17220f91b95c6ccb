/**
 * GeoTIFF: pictures and heights with a place on the map (OGC 19-008r4, "OGC GeoTIFF Standard" 1.1; GDAL's no-data tag).
 *
 * Reading goes through npm geotiff, window by window, so that a raster of any size fits. Writing is our own: the library
 * needs the whole raster in memory, and a map of a district has none to spare. Strips come in order of rows and go to the disk
 * at once; an uncompressed file's offsets are known before the first of them.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { fromArrayBuffer, fromFile, type GeoTIFF, type GeoTIFFImage } from 'geotiff';
import { DataError } from '../errors.js';

/** Where a raster lies: the tags as they stand in the file. */
export interface GeoReference {
  /** ModelPixelScale: [x, y, z] units a pixel. */
  readonly pixelScale?: readonly number[];
  /** ModelTiepoint: six numbers a point. */
  readonly tiepoints?: readonly number[];
  /** ModelTransformation: 4 x 4, row by row. */
  readonly transformation?: readonly number[];
  /** GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams. */
  readonly keyDirectory?: readonly number[];
  readonly doubleParameters?: readonly number[];
  readonly asciiParameters?: string;
}

/** A rectangle of whole pixels. */
export interface RasterWindow {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const TAG = {
  width: 256,
  height: 257,
  bitsPerSample: 258,
  compression: 259,
  photometric: 262,
  stripOffsets: 273,
  samplesPerPixel: 277,
  rowsPerStrip: 278,
  stripByteCounts: 279,
  sampleFormat: 339,
  pixelScale: 33550,
  tiepoints: 33922,
  transformation: 34264,
  keyDirectory: 34735,
  doubleParameters: 34736,
  asciiParameters: 34737,
  noData: 42113,
} as const;

const PALETTE = 3;
const FLOATS = 3;

/** An open GeoTIFF (its first picture). */
export class GeoTiff {
  private constructor(
    readonly path: string,
    private readonly file: GeoTIFF,
    private readonly image: GeoTIFFImage,
    /** What stands for "no data", if anything. */
    readonly noData: number | undefined,
    /** Undefined where the file has no georeference. */
    readonly reference: GeoReference | undefined,
    private readonly photometric: number,
  ) {}

  /** @throws DataError if it is no TIFF or cannot be read */
  static open(path: string): Promise<GeoTiff> {
    return GeoTiff.read(path, () => fromFile(path));
  }

  /** A file that lies in memory, called `path` in errors. @throws DataError if it is no TIFF */
  static of(bytes: Uint8Array, path: string): Promise<GeoTiff> {
    return GeoTiff.read(path, () => fromArrayBuffer(Uint8Array.from(bytes).buffer));
  }

  private static async read(path: string, opening: () => Promise<GeoTIFF>): Promise<GeoTiff> {
    let file: GeoTIFF;
    try {
      file = await opening();
    } catch (cause) {
      throw new DataError(`${path} is no readable TIFF (${reasonOf(cause)})`, { cause });
    }
    try {
      const image = await file.getImage();
      const directory = image.fileDirectory;
      const numbers = async (tag: number): Promise<number[] | undefined> => {
        if (!directory.hasTag(tag)) return undefined;
        return Array.from((await directory.loadValue(tag)) as unknown as ArrayLike<number>);
      };
      const text = async (tag: number): Promise<string | undefined> => {
        if (!directory.hasTag(tag)) return undefined;
        return String(await directory.loadValue(tag)).replace(/\0+$/, '');
      };
      const reference: GeoReference = {
        pixelScale: await numbers(TAG.pixelScale),
        tiepoints: await numbers(TAG.tiepoints),
        transformation: await numbers(TAG.transformation),
        keyDirectory: await numbers(TAG.keyDirectory),
        doubleParameters: await numbers(TAG.doubleParameters),
        asciiParameters: await text(TAG.asciiParameters),
      };
      const written = await text(TAG.noData);
      const noData = written === undefined || written.trim() === '' ? undefined : Number(written);
      const placed = Object.values(reference).some((value) => value !== undefined);
      const photometric = directory.hasTag(TAG.photometric) ? Number(await directory.loadValue(TAG.photometric)) : 1;
      return new GeoTiff(path, file, image, noData, placed ? reference : undefined, photometric);
    } catch (cause) {
      await closeQuietly(file);
      throw new DataError(`${path} is no readable TIFF (${reasonOf(cause)})`, { cause });
    }
  }

  get width(): number {
    return this.image.getWidth();
  }

  get height(): number {
    return this.image.getHeight();
  }

  get bands(): number {
    return this.image.getSamplesPerPixel();
  }

  private get whole(): RasterWindow {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  /**
   * The picture's colours: the first three bands, a palette, or one band of grey. Further bands (infrared, alpha) are left out.
   * @returns u8 [height, width, 3]
   * @throws DataError for bands that are not 8 bits wide, or two of them
   */
  async rgb(window: RasterWindow = this.whole): Promise<Uint8Array> {
    const bits = this.image.getBitsPerSample();
    if (bits !== 8 || this.image.getSampleFormat() !== 1) {
      throw new DataError(
        `${this.path} has bands of ${bits} bits where a picture of 8 bits is wanted: ` +
          'scale it first, with gdal_translate -ot Byte -scale',
      );
    }
    if (this.bands === 2) throw new DataError(`${this.path} has two bands; a picture has one (grey) or three and more`);
    const grey = this.bands === 1 && this.photometric !== PALETTE;
    const read = await this.reading(async () =>
      grey
        ? this.image.readRasters({ window: corners(window), interleave: true })
        : this.image.readRGB({ window: corners(window), interleave: true }),
    );
    const data = read as unknown as ArrayLike<number>;
    if (!grey) return Uint8Array.from(data);
    return Uint8Array.from({ length: 3 * data.length }, (_, i) => data[Math.floor(i / 3)]);
  }

  /**
   * One band as numbers.
   * @returns float32 [height, width]; NaN where there is no data (the no-data value, NaN, infinities)
   */
  async band(index = 0, window: RasterWindow = this.whole): Promise<Float32Array> {
    const [data] = (await this.reading(async () =>
      this.image.readRasters({ window: corners(window), samples: [index] }),
    )) as unknown as ArrayLike<number>[];
    // The value of the tag is text; in a float32 raster it stands rounded.
    const absent = this.noData === undefined ? undefined : Math.fround(this.noData);
    return Float32Array.from(data, (value) =>
      Number.isFinite(value) && Math.fround(value) !== absent ? value : Number.NaN,
    );
  }

  /** Whether the file holds floating numbers. */
  get floating(): boolean {
    return this.image.getSampleFormat() === FLOATS;
  }

  private async reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (cause) {
      throw new DataError(`${this.path} cannot be read (${reasonOf(cause)}): it is damaged or cut`, { cause });
    }
  }

  async close(): Promise<void> {
    await closeQuietly(this.file);
  }
}

function corners({ x, y, width, height }: RasterWindow): [number, number, number, number] {
  return [x, y, x + width, y + height];
}

function reasonOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split('\n')[0];
}

async function closeQuietly(file: GeoTIFF): Promise<void> {
  // The file was only read: nothing is lost if closing fails.
  await Promise.resolve(file.close()).catch(() => {});
}

/** Bytes of the values of one directory entry. */
interface Entry {
  readonly tag: number;
  /** 2 ASCII, 3 uint16, 4 uint32, 12 float64. */
  readonly type: 2 | 3 | 4 | 12;
  readonly values: readonly number[];
}

const TYPE_BYTES = { 2: 1, 3: 2, 4: 4, 12: 8 } as const;

/** Rows of a strip hold about this many bytes, as the standard advises. */
const STRIP_BYTES = 1 << 16;

/** Offsets of a classic TIFF are 32 bits wide. */
const MAX_FILE_BYTES = 2 ** 32 - 1;

export interface HeightRaster {
  readonly width: number;
  readonly height: number;
  /** Written where a value is NaN. */
  readonly noData: number;
  readonly reference?: GeoReference;
}

/** Writes a float32 raster of one band, row after row. */
export class HeightRasterWriter {
  private rows = 0;

  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    private readonly raster: HeightRaster,
    private readonly dataStart: number,
  ) {}

  /** @throws DataError if the raster is beyond 4 GiB or the file cannot be made */
  static async create(path: string, raster: HeightRaster): Promise<HeightRasterWriter> {
    const { width, height, noData, reference } = raster;
    const rowBytes = 4 * width;
    const rowsPerStrip = Math.max(1, Math.floor(STRIP_BYTES / rowBytes));
    const strips = Math.ceil(height / rowsPerStrip);
    const ascii = (text: string): number[] => [...Buffer.from(`${text}\0`, 'latin1')];
    const entriesAt = (dataStart: number): Entry[] => {
      const entries: Entry[] = [
        { tag: TAG.width, type: 4, values: [width] },
        { tag: TAG.height, type: 4, values: [height] },
        { tag: TAG.bitsPerSample, type: 3, values: [32] },
        { tag: TAG.compression, type: 3, values: [1] },
        { tag: TAG.photometric, type: 3, values: [1] },
        {
          tag: TAG.stripOffsets,
          type: 4,
          values: Array.from({ length: strips }, (_, i) => dataStart + i * rowsPerStrip * rowBytes),
        },
        { tag: TAG.samplesPerPixel, type: 3, values: [1] },
        { tag: TAG.rowsPerStrip, type: 4, values: [rowsPerStrip] },
        {
          tag: TAG.stripByteCounts,
          type: 4,
          values: Array.from(
            { length: strips },
            (_, i) => Math.min(rowsPerStrip, height - i * rowsPerStrip) * rowBytes,
          ),
        },
        { tag: TAG.sampleFormat, type: 3, values: [FLOATS] },
        { tag: TAG.noData, type: 2, values: ascii(String(noData)) },
      ];
      const optional = (tag: number, type: 3 | 12, values: readonly number[] | undefined): void => {
        if (values && values.length > 0) entries.push({ tag, type, values });
      };
      optional(TAG.pixelScale, 12, reference?.pixelScale);
      optional(TAG.tiepoints, 12, reference?.tiepoints);
      optional(TAG.transformation, 12, reference?.transformation);
      optional(TAG.keyDirectory, 3, reference?.keyDirectory);
      optional(TAG.doubleParameters, 12, reference?.doubleParameters);
      const { asciiParameters } = reference ?? {};
      if (asciiParameters) entries.push({ tag: TAG.asciiParameters, type: 2, values: ascii(asciiParameters) });
      return entries.sort((a, b) => a.tag - b.tag);
    };
    if (height * rowBytes + 8 * strips + 1024 > MAX_FILE_BYTES) {
      throw new DataError(
        `${path} would have ${width} x ${height} float32 values, more than the 4 GiB of a TIFF: cut the raster in two`,
      );
    }
    // The length of the directory does not depend on the offsets in it.
    const dataStart = encodeDirectory(entriesAt(0)).length;
    let handle: FileHandle;
    try {
      handle = await open(path, 'w');
    } catch (cause) {
      throw new DataError(`${path} cannot be written (${reasonOf(cause)})`, { cause });
    }
    await handle.write(encodeDirectory(entriesAt(dataStart)), 0, dataStart, 0);
    return new HeightRasterWriter(path, handle, raster, dataStart);
  }

  /**
   * Appends rows.
   * @param values float32 [rows, width]; NaN becomes the no-data value
   * @throws DataError for values that are no whole rows, or more rows than the raster has
   */
  async writeRows(values: Float32Array): Promise<void> {
    const { width, height, noData } = this.raster;
    const rows = values.length / width;
    if (!Number.isInteger(rows) || this.rows + rows > height) {
      throw new DataError(`${this.path}: ${values.length} values are not the next rows of ${width} x ${height}`);
    }
    const bytes = Buffer.alloc(4 * values.length);
    for (let i = 0; i < values.length; i++) bytes.writeFloatLE(Number.isNaN(values[i]) ? noData : values[i], 4 * i);
    await this.handle.write(bytes, 0, bytes.length, this.dataStart + this.rows * 4 * width);
    this.rows += rows;
  }

  /** @throws DataError where rows are missing */
  async close(): Promise<void> {
    await this.handle.close();
    if (this.rows !== this.raster.height) {
      throw new DataError(`${this.path} was given ${this.rows} of its ${this.raster.height} rows`);
    }
  }
}

/** The header and the only directory of a little-endian TIFF, the values that do not fit an entry behind it. */
function encodeDirectory(entries: readonly Entry[]): Buffer {
  const headerBytes = 8;
  const directoryBytes = 2 + 12 * entries.length + 4;
  const sizes = entries.map(({ type, values }) => TYPE_BYTES[type] * values.length);
  const outside = sizes.map((size) => (size > 4 ? size + (size % 2) : 0));
  const total = headerBytes + directoryBytes + outside.reduce((a, b) => a + b, 0);
  // Strips start at a multiple of four bytes.
  const bytes = Buffer.alloc(Math.ceil(total / 4) * 4);
  bytes.write('II', 0, 'latin1');
  bytes.writeUInt16LE(42, 2);
  bytes.writeUInt32LE(headerBytes, 4);
  bytes.writeUInt16LE(entries.length, headerBytes);
  let free = headerBytes + directoryBytes;
  entries.forEach(({ tag, type, values }, i) => {
    const at = headerBytes + 2 + 12 * i;
    bytes.writeUInt16LE(tag, at);
    bytes.writeUInt16LE(type, at + 2);
    bytes.writeUInt32LE(values.length, at + 4);
    let to = at + 8;
    if (outside[i] > 0) {
      bytes.writeUInt32LE(free, at + 8);
      to = free;
      free += outside[i];
    }
    values.forEach((value, k) => {
      const where = to + TYPE_BYTES[type] * k;
      if (type === 2) bytes.writeUInt8(value, where);
      else if (type === 3) bytes.writeUInt16LE(value, where);
      else if (type === 4) bytes.writeUInt32LE(value, where);
      else bytes.writeDoubleLE(value, where);
    });
  });
  return bytes;
}
