/**
 * Random access to the members of a zip: the central directory at the end is the index; members, stored or deflated,
 * are read by position through one file handle. Zip64 is read; encryption and other methods are refused by name
 * (PKWARE APPNOTE 6.3, sections 4.3–4.5).
 */
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { DataError } from '../errors.js';
import { CorruptPicture } from './picture.js';
import { type Container, type Member, readRange } from './tar.js';

const inflate = promisify(inflateRaw);

/** Where a zip member's local header lies, and how its content is packed. */
export interface ZipMember extends Member {
  readonly headerOffset: number;
  readonly packedSize: number;
  readonly size: number;
  readonly crc: number;
  readonly deflated: boolean;
}

const LOCAL_HEADER = 0x04034b50;
const CENTRAL_HEADER = 0x02014b50;
const END_OF_DIRECTORY = 0x06054b50;
const ZIP64_END = 0x06064b50;
const ZIP64_LOCATOR = 0x07064b50;

const END_BYTES = 22;
const ZIP64_LOCATOR_BYTES = 20;
const ZIP64_END_BYTES = 56;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const MAX_COMMENT = 0xffff;
const IN_ZIP64 = 0xffffffff;

const STORED = 0;
const DEFLATED = 8;

/** A member larger than this is no picture; inflating stops there. */
const MAX_MEMBER_BYTES = 1 << 30;

interface Directory {
  readonly offset: number;
  readonly size: number;
  readonly entries: number;
}

async function findDirectory(path: string, handle: FileHandle, fileSize: number): Promise<Directory> {
  const damaged = (what: string) =>
    new DataError(`${path} is not a whole zip archive: ${what} (cut short while being copied?)`);
  const tailSize = Math.min(fileSize, END_BYTES + MAX_COMMENT);
  const tailStart = fileSize - tailSize;
  const tail = await readRange(handle, tailStart, tailSize);
  let at = tailSize - END_BYTES;
  // The signature may occur inside the comment; the real record's comment reaches exactly to the end.
  while (
    at >= 0 &&
    !(tail.readUInt32LE(at) === END_OF_DIRECTORY && at + END_BYTES + tail.readUInt16LE(at + 20) === tailSize)
  ) {
    at--;
  }
  if (at < 0) throw damaged('its directory at the end is missing');
  let directory: Directory = {
    entries: tail.readUInt16LE(at + 10),
    size: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
  };
  const locatorAt = tailStart + at - ZIP64_LOCATOR_BYTES;
  if (locatorAt >= 0) {
    const locator = await readRange(handle, locatorAt, ZIP64_LOCATOR_BYTES);
    if (locator.readUInt32LE(0) === ZIP64_LOCATOR) {
      const endAt = Number(locator.readBigUInt64LE(8));
      if (endAt + ZIP64_END_BYTES > fileSize) throw damaged('its zip64 directory lies outside the file');
      const end = await readRange(handle, endAt, ZIP64_END_BYTES);
      if (end.readUInt32LE(0) !== ZIP64_END) throw damaged('its zip64 directory is missing');
      directory = {
        entries: Number(end.readBigUInt64LE(32)),
        size: Number(end.readBigUInt64LE(40)),
        offset: Number(end.readBigUInt64LE(48)),
      };
    }
  }
  if (directory.offset + directory.size > fileSize) throw damaged('its directory lies outside the file');
  return directory;
}

/** The 64-bit values of the zip64 extra field (id 1), which holds only those whose 32-bit field is all ones. */
function zip64Values(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const size = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === 1) {
      const values: bigint[] = [];
      const end = Math.min(at + 4 + size, extra.length);
      for (let v = at + 4; v + 8 <= end; v += 8) values.push(extra.readBigUInt64LE(v));
      return values;
    }
    at += 4 + size;
  }
  return [];
}

/**
 * Indexes a zip file. Takes over `handle`.
 * @throws DataError if it is not a zip, is cut short, is encrypted or uses another method than stored or deflate
 */
export async function openZip(path: string, handle: FileHandle, fileSize: number): Promise<Container<ZipMember>> {
  const directory = await findDirectory(path, handle, fileSize);
  const bytes = await readRange(handle, directory.offset, directory.size);
  const members: ZipMember[] = [];
  let at = 0;
  for (let entry = 0; entry < directory.entries; entry++) {
    if (at + CENTRAL_BYTES > bytes.length || bytes.readUInt32LE(at) !== CENTRAL_HEADER) {
      throw new DataError(`${path} is damaged: entry ${entry + 1} of its directory is not valid; pack it again`);
    }
    const flags = bytes.readUInt16LE(at + 8);
    const method = bytes.readUInt16LE(at + 10);
    const nameLength = bytes.readUInt16LE(at + 28);
    const extraLength = bytes.readUInt16LE(at + 30);
    const nameAt = at + CENTRAL_BYTES;
    const name = bytes.toString('utf8', nameAt, nameAt + nameLength).replaceAll('\\', '/');
    const wide = zip64Values(bytes.subarray(nameAt + nameLength, nameAt + nameLength + extraLength));
    const widened = (value: number) => (value === IN_ZIP64 ? Number(wide.shift() ?? value) : value);
    // The order of the extra field: size, packed size, offset.
    const size = widened(bytes.readUInt32LE(at + 24));
    const packedSize = widened(bytes.readUInt32LE(at + 20));
    const headerOffset = widened(bytes.readUInt32LE(at + 42));
    const crc = bytes.readUInt32LE(at + 16);
    at = nameAt + nameLength + extraLength + bytes.readUInt16LE(at + 32);
    if (name.endsWith('/')) continue;
    if (flags & 1) throw new DataError(`${path} is encrypted ("${name}"); unpack it first`);
    if (method !== STORED && method !== DEFLATED) {
      throw new DataError(`${path}: "${name}" is packed by method ${method}; pack it again with deflate or stored`);
    }
    members.push({ path: name, headerOffset, packedSize, size, crc, deflated: method === DEFLATED });
  }

  const read = async (member: ZipMember): Promise<Uint8Array> => {
    const { path: name, headerOffset, packedSize, size } = member;
    if (headerOffset + LOCAL_BYTES > fileSize) throw new CorruptPicture(name, 'lies outside the archive');
    const header = await readRange(handle, headerOffset, LOCAL_BYTES);
    if (header.readUInt32LE(0) !== LOCAL_HEADER) throw new CorruptPicture(name, 'its header in the archive is damaged');
    // The local header's name and extra field may be longer than the directory's.
    const start = headerOffset + LOCAL_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + packedSize > fileSize || size > MAX_MEMBER_BYTES) {
      throw new CorruptPicture(name, 'its size in the archive is not believable');
    }
    const packed = await readRange(handle, start, packedSize);
    let content: Buffer = packed;
    if (member.deflated) {
      try {
        content = await inflate(packed, { maxOutputLength: Math.max(size, 1) });
      } catch (error) {
        throw new CorruptPicture(name, 'its packed data in the archive is damaged', { cause: error });
      }
    }
    if (content.length !== size || crc32(content) !== member.crc) {
      throw new CorruptPicture(name, 'its checksum in the archive does not match');
    }
    return content;
  };
  return { members, read, close: () => handle.close() };
}
