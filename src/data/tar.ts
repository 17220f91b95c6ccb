/**
 * Random access to the members of an uncompressed tar: one pass over the headers makes an index, members are then read
 * by position through the same file handle, from any number of callers at once. POSIX ustar with pax headers, GNU long
 * names and base-256 sizes (POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format").
 */
import { type FileHandle, open } from 'node:fs/promises';
import { DataError } from '../errors.js';

/** A regular file inside an archive or a folder, by its path with forward slashes. */
export interface Member {
  readonly path: string;
  /** Content that was small enough to be kept while indexing. */
  readonly text?: string;
}

/** Files that can be read by index in any order: a folder or an archive. */
export interface Container<M extends Member> {
  readonly members: readonly M[];
  /** Whole content. Throws `CorruptPicture` if only this member is damaged. */
  read(member: M): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Where a tar member's content lies, in bytes from the start of the file. */
export interface TarMember extends Member {
  readonly offset: number;
  readonly size: number;
}

const BLOCK = 512;

/** Headers of small members lie close together: they are read through a window of this many bytes. */
const WINDOW = 1 << 18;

/** Members that hold a label keep it in the index: an archive of a million samples has a million of them. */
const LABEL_MEMBER = /\.cls$/i;
const LABEL_BYTES = 64;

/** Reads whole ranges of a file through a window. */
class WindowReader {
  readonly #handle: FileHandle;
  readonly #fileSize: number;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(handle: FileHandle, fileSize: number) {
    this.#handle = handle;
    this.#fileSize = fileSize;
  }

  /** `size` bytes at `offset`, which must lie inside the file; valid until the next call. */
  async bytes(offset: number, size: number): Promise<Buffer> {
    const from = offset - this.#start;
    if (from < 0 || from + size > this.#window.length) {
      const length = Math.min(Math.max(size, WINDOW), this.#fileSize - offset);
      this.#window = await readRange(this.#handle, offset, length);
      this.#start = offset;
      return this.#window.subarray(0, size);
    }
    return this.#window.subarray(from, from + size);
  }
}

/** Exactly `length` bytes at `offset`. Throws `DataError` if the file ends before that. */
export async function readRange(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) throw new DataError(`the file ends at byte ${offset + done}; it was cut while being read`);
    done += bytesRead;
  }
  return buffer;
}

function cString(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

/** A numeric field: octal digits, or big-endian binary if the top bit is set (GNU, for 8 GiB and more). */
function numberField(block: Buffer, start: number, length: number): number {
  if (block[start] & 0x80) {
    let value = block[start] & 0x7f;
    for (let i = start + 1; i < start + length; i++) value = value * 256 + block[i];
    return value;
  }
  const text = cString(block, start, length).trim();
  return text === '' ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
}

/** Whether the header's checksum is right: the sum of its bytes with the checksum field as blanks. */
function checksumHolds(block: Buffer): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : block[i];
  return sum === numberField(block, 148, 8);
}

/** The records `LENGTH KEY=VALUE\n` of a pax header. */
function paxRecords(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  let at = 0;
  while (at < data.length) {
    const blank = data.indexOf(32, at);
    const length = blank < 0 ? 0 : Number.parseInt(data.toString('latin1', at, blank), 10);
    if (!(length > 0)) break;
    const record = data.toString('utf8', blank + 1, at + length - 1);
    const equals = record.indexOf('=');
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

/**
 * Indexes a tar file. Takes over `handle`.
 * @throws DataError if it is not a tar, is damaged, or ends in the middle of a member
 */
export async function openTar(path: string, handle: FileHandle, fileSize: number): Promise<Container<TarMember>> {
  const reader = new WindowReader(handle, fileSize);
  const members: TarMember[] = [];
  let longName: string | undefined;
  let pax = new Map<string, string>();
  let at = 0;
  while (at < fileSize) {
    if (at + BLOCK > fileSize) {
      throw new DataError(`${path} is truncated: it ends inside the header at byte ${at}; copy it again`);
    }
    const header = await reader.bytes(at, BLOCK);
    if (header.every((byte) => byte === 0)) break;
    if (!checksumHolds(header)) {
      throw new DataError(
        at === 0
          ? `${path} is not an uncompressed tar archive`
          : `${path} is damaged: there is no valid tar header at byte ${at}; copy it again`,
      );
    }
    const type = String.fromCharCode(header[156]);
    const prefix = header.toString('latin1', 257, 262) === 'ustar' ? cString(header, 345, 155) : '';
    const shortName = cString(header, 0, 100);
    const paxSize = pax.get('size');
    const size = paxSize === undefined ? numberField(header, 124, 12) : Number(paxSize);
    const name = pax.get('path') ?? longName ?? (prefix ? `${prefix}/${shortName}` : shortName);
    const content = at + BLOCK;
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new DataError(`${path} is damaged: "${name}" at byte ${at} has no valid size; copy it again`);
    }
    if (content + size > fileSize) {
      throw new DataError(`${path} is truncated: it ends inside "${name}"; copy it again`);
    }
    at = content + Math.ceil(size / BLOCK) * BLOCK;
    if (type === 'L') {
      longName = cString(await reader.bytes(content, size), 0, size);
      continue;
    }
    if (type === 'x') {
      pax = paxRecords(await reader.bytes(content, size));
      continue;
    }
    // Global pax headers and long link names say nothing about a regular file's place.
    if (type === 'g' || type === 'K') continue;
    longName = undefined;
    pax = new Map();
    if (type !== '0' && type !== '\0' && type !== '7') continue;
    const keepsText = LABEL_MEMBER.test(name) && size <= LABEL_BYTES;
    members.push({
      path: name.replace(/^(\.\/)+/, ''),
      offset: content,
      size,
      text: keepsText ? (await reader.bytes(content, size)).toString('utf8') : undefined,
    });
  }
  return {
    members,
    read: (member) => readRange(handle, member.offset, member.size),
    close: () => handle.close(),
  };
}

/** Opens `path` for random reading; the size is that at this moment. */
export async function openFile(path: string): Promise<{ handle: FileHandle; size: number }> {
  const handle = await open(path, 'r');
  try {
    return { handle, size: (await handle.stat()).size };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
