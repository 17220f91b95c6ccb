/**
 * Vulkan drivers that run on the CPU, for machines without a GPU: where an installed one lies (Mesa's lavapipe, Chromium's
 * SwiftShader), and the SwiftShader that comes through npm, in the package @sparticuz/chromium, unpacked into the cache
 * folder. A driver is named by its ICD manifest, the JSON file that the Vulkan loader reads (Vulkan loader
 * documentation, "LoaderDriverInterface"). The same package brings a Vulkan loader for systems that have none.
 * Linux only; Node only.
 */

import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

const MANIFEST_FOLDERS = [
  '/usr/share/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/etc/vulkan/icd.d',
  '/run/opengl-driver/share/vulkan/icd.d',
];

const BROWSER_FOLDERS = [
  '/usr/lib/chromium',
  '/usr/lib/chromium-browser',
  '/usr/lib64/chromium-browser',
  '/opt/google/chrome',
  '/opt/google/chrome-beta',
  '/opt/microsoft/msedge',
  '/opt/brave.com/brave',
  '/snap/chromium/current/usr/lib/chromium-browser',
];

const SWIFTSHADER = 'libvk_swiftshader.so';
const LOADER = 'libvulkan.so.1';
const MANIFEST = 'vk_swiftshader_icd.json';

/** Manifests of Mesa's lavapipe in the usual folders; 32-bit ones are left out. */
export function findLavapipe(folders: readonly string[] = MANIFEST_FOLDERS): string[] {
  const found: string[] = [];
  for (const folder of folders) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder).sort()) {
      if (/^lvp_icd.*\.json$/.test(name) && !/i[3-6]86|armv7/.test(name)) found.push(join(folder, name));
    }
  }
  return found;
}

/**
 * Manifests of the SwiftShader that installed Chromium-like browsers bring. Writes one into the cache folder for a browser
 * that has none.
 */
export function findSwiftShader(folders: readonly string[] = BROWSER_FOLDERS): string[] {
  return folders
    .map((folder) => ({ library: join(folder, SWIFTSHADER), beside: join(folder, MANIFEST) }))
    .filter(({ library }) => existsSync(library))
    .map(({ library, beside }) => (manifestNames(beside, library) ? beside : writeManifest(library)));
}

/** Whether the manifest exists and leads to that library; the loader resolves a path with a slash from the manifest's folder. */
function manifestNames(manifest: string, library: string): boolean {
  try {
    const path: unknown = JSON.parse(readFileSync(manifest, 'utf8')).ICD?.library_path;
    if (typeof path !== 'string' || !path.includes('/')) return false;
    return (isAbsolute(path) ? path : join(dirname(manifest), path)) === library;
  } catch {
    return false;
  }
}

function manifestText(libraryPath: string): string {
  return JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: libraryPath, api_version: '1.0.5' } });
}

function writeManifest(library: string): string {
  const path = join(cacheFolder(), `swiftshader_${sha256(Buffer.from(library)).slice(0, 12)}_icd.json`);
  const beside = `${path}.${process.pid}`;
  writeFileSync(beside, manifestText(library));
  renameSync(beside, path);
  return path;
}

/**
 * The folder for what can be made again: $XDG_CACHE_HOME/webdino, else ~/.cache/webdino, else one in the temporary folder.
 * Libraries are loaded from it, so it must belong to this user and be writable by no one else. Throws where none is.
 */
export function cacheFolder(): string {
  const user = process.getuid?.();
  const candidates = [
    process.env.XDG_CACHE_HOME && isAbsolute(process.env.XDG_CACHE_HOME)
      ? join(process.env.XDG_CACHE_HOME, 'webdino')
      : '',
    join(homedir(), '.cache', 'webdino'),
    join(tmpdir(), `webdino-${user ?? userInfo().username}`),
  ];
  const refusals: string[] = [];
  for (const folder of candidates) {
    if (!folder) continue;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const status = lstatSync(folder);
      if (!status.isDirectory()) throw new Error('not a folder');
      if (user !== undefined && status.uid !== user) throw new Error('belongs to another user');
      if (user !== undefined && (status.mode & 0o022) !== 0) chmodSync(folder, 0o700);
      const probe = join(folder, `.probe.${process.pid}`);
      writeFileSync(probe, '');
      rmSync(probe);
      return folder;
    } catch (error) {
      refusals.push(`${folder}: ${(error as Error).message}`);
    }
  }
  throw new Error(`no cache folder can be written (${refusals.join('; ')}); set XDG_CACHE_HOME to one that can`);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The regular files of a tar archive (POSIX ustar headers), by their base names. Throws on a damaged header. */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (at: number, length: number): string =>
    Buffer.from(archive.subarray(at, at + length))
      .toString('latin1')
      .replace(/\0.*$/s, '');
  for (let at = 0; at + 512 <= archive.length; ) {
    const header = archive.subarray(at, at + 512);
    if (header.every((byte) => byte === 0)) break;
    let sum = 0;
    for (let i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 32 : header[i];
    const size = Number.parseInt(text(at + 124, 12).trim() || '0', 8);
    if (sum !== Number.parseInt(text(at + 148, 8).trim(), 8) || at + 512 + size > archive.length) {
      throw new Error(`the tar archive is damaged at byte ${at}`);
    }
    const type = text(at + 156, 1);
    if (type === '' || type === '0')
      files.set(text(at, 100).split('/').pop()!, archive.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** `contents.json` beside the unpacked files: what they must be. Written before the folder gets its final name. */
type Contents = Record<string, { sizeBytes: number; sha256: string }>;

function intact(folder: string): boolean {
  try {
    const contents: Contents = JSON.parse(readFileSync(join(folder, 'contents.json'), 'utf8'));
    return [SWIFTSHADER, LOADER, MANIFEST].every((name) => {
      const bytes = readFileSync(join(folder, name));
      return bytes.length === contents[name].sizeBytes && sha256(bytes) === contents[name].sha256;
    });
  } catch {
    return false;
  }
}

/**
 * Unpacks the SwiftShader of @sparticuz/chromium (3.5 MB packed, 6.8 MB here) and its Vulkan loader into the cache folder,
 * once; later calls check the unpacked files by hash and repair them. Throws where the package or a writable folder is
 * missing.
 */
export function unpackBundledSwiftShader(cache: string = cacheFolder()): { manifest: string; loader: string } {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`the SwiftShader from npm is built for linux x64, not ${process.platform} ${process.arch}`);
  }
  const { archive, version } = bundledArchive();
  const folder = join(cache, `swiftshader-${version}`);
  if (!intact(folder)) {
    const files = readTar(brotliDecompressSync(readFileSync(archive)));
    const beside = `${folder}.${process.pid}`;
    try {
      mkdirSync(beside, { recursive: true, mode: 0o700 });
      const contents: Contents = {};
      for (const name of [SWIFTSHADER, LOADER, MANIFEST]) {
        const bytes = name === MANIFEST ? Buffer.from(manifestText(`./${SWIFTSHADER}`)) : files.get(name);
        if (!bytes) throw new Error(`${archive} holds no ${name}; run npm ci again`);
        writeFileSync(join(beside, name), bytes, { mode: 0o600 });
        contents[name] = { sizeBytes: bytes.length, sha256: sha256(bytes) };
      }
      writeFileSync(join(beside, 'contents.json'), JSON.stringify(contents));
      moveIntoPlace(beside, folder);
    } finally {
      rmSync(beside, { recursive: true, force: true });
    }
  }
  return { manifest: join(folder, MANIFEST), loader: join(folder, LOADER) };
}

function moveIntoPlace(beside: string, folder: string): void {
  try {
    renameSync(beside, folder);
    return;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  }
  // Another process was first: its copy is as good. Otherwise a damaged one lies there and makes room.
  if (intact(folder)) return;
  const damaged = `${beside}.damaged`;
  if (existsSync(folder)) renameSync(folder, damaged);
  rmSync(damaged, { recursive: true, force: true });
  renameSync(beside, folder);
}

function bundledArchive(): { archive: string; version: string } {
  let folder: string;
  try {
    folder = dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium'));
  } catch (cause) {
    throw new Error('the npm package @sparticuz/chromium is not installed; run npm ci', { cause });
  }
  // The package's main file lies some folders below its root, which `exports` hides.
  for (; folder !== dirname(folder); folder = dirname(folder)) {
    const archive = join(folder, 'bin', 'swiftshader.tar.br');
    if (!existsSync(archive)) continue;
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return { archive, version: String(version) };
  }
  throw new Error('the npm package @sparticuz/chromium has no bin/swiftshader.tar.br; run npm ci again');
}
