/** Archives, folders and pictures made by hand for the tests of the data room. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import sharp from 'sharp';
import type { RgbImage } from '../../src/data/picture.js';

/** A file by its path. */
export type Entry = readonly [path: string, content: Uint8Array | string];

/** Runs `body` with a temporary folder that is gone afterwards. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-data-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function writeFolder(root: string, entries: readonly Entry[]): void {
  for (const [path, content] of entries) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}

/** One ustar header and its content, padded to blocks. */
export function tarEntry(name: string, content: Uint8Array | string, type = '0'): Buffer {
  const data = Buffer.from(content as string);
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write('0000644\0', 100);
  header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('        ', 148);
  header.write(type, 156);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function tarArchive(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.map(([path, content]) => tarEntry(path, content)), Buffer.alloc(1024)]);
}

/** A zip, deflated or stored, with the central directory at the end. */
export function zipArchive(entries: readonly Entry[], deflate: boolean, comment = ''): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [path, content] of entries) {
    const data = Buffer.from(content as string);
    const packed = deflate ? deflateRawSync(data) : data;
    const name = Buffer.from(path);
    // Fields common to both headers: flags, method, time, date, crc, sizes, name length.
    const common = Buffer.alloc(24);
    common.writeUInt16LE(0x0800, 0);
    common.writeUInt16LE(deflate ? 8 : 0, 2);
    common.writeUInt32LE(crc32(data), 8);
    common.writeUInt32LE(packed.length, 12);
    common.writeUInt32LE(data.length, 16);
    common.writeUInt16LE(name.length, 20);
    const local = Buffer.concat([Buffer.from('504b03041400', 'hex'), common, name, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('504b010214001400', 'hex'), common, tail, name]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...locals, directory, end, Buffer.from(comment)]);
}

/** A picture with gradients and high frequencies; a formula, so that Pillow's results for it could be written down. */
export function formulaPicture(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        data[(y * width + x) * 3 + c] = x * 3 + y * 5 + c * 40 + ((x * y) ^ ((x >> 2) * 7));
      }
    }
  }
  return { width, height, data };
}

/** The formula picture, shifted by `variant`, as a lossless PNG. */
export async function pngOf(width: number, height: number, variant = 0): Promise<Buffer> {
  const { data } = formulaPicture(width, height);
  const shifted = data.map((value) => value + variant * 13);
  return sharp(shifted, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}
