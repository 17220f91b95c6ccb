/**
 * Files and folders that are either there whole or not at all. Everything is written beside its place, flushed to the
 * disk and renamed, so that a full disk, a killed process or a power cut never leaves half a checkpoint under its name.
 * Node only.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** What a file is made of. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Writes `path` whole, replacing what was there; its folder is created when missing. On an error the old file stays as
 * it was and nothing is left beside it.
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  const target = resolve(path);
  await mkdir(dirname(target), { recursive: true });
  const beside = join(dirname(target), `.${basename(target)}.${process.pid}-${randomBytes(4).toString('hex')}.writing`);
  try {
    const file = await open(beside, 'wx');
    try {
      for await (const chunk of chunksOf(content)) await writeAll(file, chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, target);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncFolder(dirname(target));
}

/**
 * Makes folder `path` whole: `fill` writes into a folder beside it, which then takes its name. An existing folder is
 * moved aside first and removed last; if the process dies between the two, {@link restoreFolder} (also called here)
 * brings the old one back. One writer at a time for one path.
 */
export async function writeFolderAtomic(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const target = resolve(path);
  const beside = besideFolder(target, 'writing');
  const previous = besideFolder(target, 'previous');
  await mkdir(dirname(target), { recursive: true });
  await restoreFolder(target);
  await rm(beside, { recursive: true, force: true });
  await mkdir(beside);
  try {
    await fill(beside);
    await syncTree(beside);
    if (await exists(target)) await rename(target, previous);
    await rename(beside, target);
  } catch (error) {
    await restoreFolder(target);
    await rm(beside, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(dirname(target));
  await rm(previous, { recursive: true, force: true });
}

/**
 * Completes a replacement that was cut off: brings the former folder back when `path` is missing, else removes it.
 * Call it before reading a folder that {@link writeFolderAtomic} may have been replacing.
 */
export async function restoreFolder(path: string): Promise<void> {
  const target = resolve(path);
  const previous = besideFolder(target, 'previous');
  if (!(await exists(previous))) return;
  if (await exists(target)) await rm(previous, { recursive: true, force: true });
  else await rename(previous, target);
}

function besideFolder(target: string, state: 'writing' | 'previous'): string {
  return join(dirname(target), `.${basename(target)}.${state}`);
}

async function* chunksOf(content: FileContent): AsyncGenerator<Uint8Array> {
  if (typeof content === 'string') yield Buffer.from(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  let done = 0;
  while (done < chunk.length) {
    // One write of 2 GiB or more fails on Linux.
    const { bytesWritten } = await file.write(chunk, done, Math.min(chunk.length - done, 2 ** 30));
    done += bytesWritten;
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncPath(path, 'r+');
  }
  await syncFolder(folder);
}

/** A rename is on disk once its folder is; Windows cannot open folders and orders renames by itself. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform !== 'win32') await syncPath(folder, 'r');
}

async function syncPath(path: string, flags: string): Promise<void> {
  const file = await open(path, flags);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
