/**
 * The palette indices of a PNG. Label masks are often stored with a palette (PASCAL VOC), and picture libraries hand out its
 * colours where the indices are wanted. Colour type 3, 1 to 8 bits, not interlaced (W3C PNG, third edition, §7, §9, §11).
 */
import { inflateSync } from 'node:zlib';
import { CorruptPicture } from './picture.js';

const SIGNATURE_BYTES = 8;
const PALETTE_COLOUR = 3;

/** Whether these are the first bytes of a PNG with a palette. */
export function hasPalette(bytes: Uint8Array): boolean {
  return bytes.length > 29 && bytes[1] === 0x50 && bytes[2] === 0x4e && bytes[25] === PALETTE_COLOUR;
}

/**
 * @returns u8 [height, width], the indices
 * @throws CorruptPicture if it is damaged or interlaced
 */
export function paletteIndices(
  bytes: Uint8Array,
  name: string,
): { readonly width: number; readonly height: number; readonly data: Uint8Array } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = view.readUInt32BE(16);
  const height = view.readUInt32BE(20);
  const bits = view[24];
  if (view[28] !== 0) throw new CorruptPicture(name, 'is interlaced; store the mask without interlacing');
  const parts: Buffer[] = [];
  for (let at = SIGNATURE_BYTES; at + 12 <= view.length; ) {
    const length = view.readUInt32BE(at);
    if (view.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(view.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  let lines: Buffer;
  try {
    lines = inflateSync(Buffer.concat(parts));
  } catch (cause) {
    throw new CorruptPicture(name, 'is damaged: its data do not unpack', { cause });
  }
  const rowBytes = Math.ceil((width * bits) / 8);
  if (lines.length < (rowBytes + 1) * height) throw new CorruptPicture(name, 'is truncated');
  const data = new Uint8Array(width * height);
  let above = new Uint8Array(rowBytes);
  for (let y = 0; y < height; y++) {
    const start = y * (rowBytes + 1);
    const row = unfiltered(lines[start], lines.subarray(start + 1, start + 1 + rowBytes), above);
    for (let x = 0; x < width; x++) {
      const shift = 8 - bits - ((x * bits) % 8);
      data[y * width + x] = (row[(x * bits) >> 3] >> shift) & ((1 << bits) - 1);
    }
    above = row;
  }
  return { width, height, data };
}

/** One row without its filter; a pixel of a palette takes one byte at most, so "left" is one byte away. */
function unfiltered(filter: number, line: Uint8Array, above: Uint8Array): Uint8Array<ArrayBuffer> {
  const row = new Uint8Array(line.length);
  for (let i = 0; i < line.length; i++) {
    const left = i > 0 ? row[i - 1] : 0;
    const corner = i > 0 ? above[i - 1] : 0;
    let predicted = 0;
    if (filter === 1) predicted = left;
    else if (filter === 2) predicted = above[i];
    else if (filter === 3) predicted = (left + above[i]) >> 1;
    else if (filter === 4) {
      const guess = left + above[i] - corner;
      const [toLeft, toAbove, toCorner] = [left, above[i], corner].map((value) => Math.abs(guess - value));
      if (toLeft <= toAbove && toLeft <= toCorner) predicted = left;
      else predicted = toAbove <= toCorner ? above[i] : corner;
    }
    row[i] = line[i] + predicted;
  }
  return row;
}
