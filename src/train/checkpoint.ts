/**
 * Checkpoints: everything that a run continues from, bit for bit.
 *
 *     DIR/checkpoints/last.json                         which one is the newest
 *     DIR/checkpoints/step_0001000/student.safetensors  backbone and heads, official names
 *                                  teacher.safetensors
 *                                  optimizer.safetensors  exp_avg.NAME, exp_avg_sq.NAME, centres, loss_scale
 *                                  config.yaml            the run's configuration
 *                                  state.json             step, seed, place in the schedule, data, sizes and SHA-256 of the files
 *
 * A folder is written beside its place and renamed whole; it holds no time and no place of the run, so two runs with one
 * seed write the same bytes. Reading checks every byte of every file before the first value goes to the GPU.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DataError } from '../errors.js';
import { writeFileAtomic, writeFolderAtomic } from '../io/atomic.js';
import { readSafetensors, readSafetensorsHeader, safetensorsHeader, type TensorPlace } from '../io/safetensors.js';
import { LOSS_SCALE, lossScaleState, readLossScale } from '../tensor/loss_scale.js';
import type { ParameterStore } from '../tensor/parameters.js';

const FORMAT = 'webdino-checkpoint';
const VERSION = 1;

/** Tensors are read back, hashed and written in groups of about this size, so that a large state is never held whole. */
const GROUP_BYTES = 64 * 2 ** 20;

/** The GPU's side of a run; `SslTrainer` is one. */
export interface CheckpointStores {
  readonly student: ParameterStore;
  readonly teacher: ParameterStore;
  readonly firstMoment: ParameterStore;
  readonly secondMoment: ParameterStore;
  readonly centers: ParameterStore;
  /** Holds `LOSS_SCALE` alone. */
  readonly lossScale: ParameterStore;
}

/** The rest of a run. */
export interface CheckpointState {
  /** Steps taken, which is the number of the next one. */
  readonly step: number;
  readonly totalSteps: number;
  readonly seed: number;
  /** What the schedules give at `step`. */
  readonly schedule: Readonly<Record<string, number>>;
  readonly data: DataIdentity;
}

/** Tells whether a run goes on with the pictures it began with. */
export interface DataIdentity {
  /** Folder, archive or name of the set. */
  readonly path: string;
  /** Pictures. */
  readonly length: number;
  /** SHA-256 of all names in order, one a line. */
  readonly names: string;
}

/** A checkpoint on the disk whose state.json is sound; its tensors are checked when they are loaded. */
export interface Checkpoint {
  readonly folder: string;
  readonly state: CheckpointState;
  /** The configuration the run had. */
  readonly configPath: string;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

/** One tensor of a file and where its values are kept. */
interface Entry {
  readonly dtype: 'F32';
  readonly shape: readonly number[];
  readonly store: ParameterStore;
  /** Its name in the store. */
  readonly key: string;
}

type TensorFile = 'student.safetensors' | 'teacher.safetensors' | 'optimizer.safetensors';

const TENSOR_FILES: readonly TensorFile[] = ['student.safetensors', 'teacher.safetensors', 'optimizer.safetensors'];
const CONFIG_FILE = 'config.yaml';

export function checkpointsFolder(out: string): string {
  return join(out, 'checkpoints');
}

/** `step_0001000`: names sort by step. */
export function checkpointName(step: number): string {
  return `step_${String(step).padStart(7, '0')}`;
}

function stepOfName(name: string): number | undefined {
  const match = /^step_(\d{7,})$/.exec(name);
  return match ? Number(match[1]) : undefined;
}

function entriesOf(store: ParameterStore, prefix = ''): [string, Entry][] {
  return store.names.map((key) => [prefix + key, { dtype: 'F32', shape: store.get(key).shape, store, key }]);
}

function fileEntries(file: TensorFile, stores: CheckpointStores): [string, Entry][] {
  if (file === 'student.safetensors') return entriesOf(stores.student);
  if (file === 'teacher.safetensors') return entriesOf(stores.teacher);
  return [
    ...entriesOf(stores.firstMoment, 'exp_avg.'),
    ...entriesOf(stores.secondMoment, 'exp_avg_sq.'),
    ...entriesOf(stores.centers),
    ...entriesOf(stores.lossScale),
  ];
}

function elements(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** Neighbours of one store, up to GROUP_BYTES a group unless one tensor alone is larger. */
function groups(order: readonly (readonly [string, Entry])[]): (readonly [string, Entry])[][] {
  const result: (readonly [string, Entry])[][] = [];
  let bytes = 0;
  for (const item of order) {
    const size = 4 * elements(item[1].shape);
    const last = result.at(-1);
    if (last && last[0][1].store === item[1].store && bytes + size <= GROUP_BYTES) {
      last.push(item);
      bytes += size;
    } else {
      result.push([item]);
      bytes = size;
    }
  }
  return result;
}

/** The bytes of a safetensors file as they come from the GPU. */
async function* storeChunks(entries: readonly [string, Entry][]): AsyncGenerator<Uint8Array> {
  const { header, order } = safetensorsHeader(entries);
  yield header;
  for (const group of groups(order)) {
    const values = await group[0][1].store.readAll(group.map(([, { key }]) => key));
    for (const [, { key }] of group) {
      const data = values.get(key)!;
      yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    }
  }
}

/** Writes the parameters of a store whose names pass `wanted` as one safetensors file, whole or not at all. */
export async function writeStore(path: string, store: ParameterStore, wanted = (_name: string) => true): Promise<void> {
  await writeFileAtomic(path, storeChunks(entriesOf(store).filter(([name]) => wanted(name))));
}

/** Passes chunks on and keeps count and hash of them. */
class Digest {
  bytes = 0;
  private readonly hash = createHash('sha256');

  async *over(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.bytes += chunk.length;
      this.hash.update(chunk);
      yield chunk;
    }
  }

  /** To be called once. */
  get sha256(): string {
    return this.hash.digest('hex');
  }
}

/**
 * Writes a checkpoint, points `last.json` at it and removes older ones. Waits for the GPU's work.
 * @param out folder of the run
 * @param keep how many checkpoints stay, this one among them; ones of later steps, left by a run that was taken back, go
 * @returns the checkpoint's folder
 */
export async function writeCheckpoint(
  out: string,
  stores: CheckpointStores,
  state: CheckpointState,
  configYaml: string,
  keep: number,
): Promise<string> {
  const name = checkpointName(state.step);
  const folder = join(checkpointsFolder(out), name);
  await writeFolderAtomic(folder, async (beside) => {
    const files: Record<string, { bytes: number; sha256: string }> = {};
    const write = async (file: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> => {
      const digest = new Digest();
      await writeFileAtomic(join(beside, file), digest.over(chunks));
      files[file] = { bytes: digest.bytes, sha256: digest.sha256 };
    };
    for (const file of TENSOR_FILES) await write(file, storeChunks(fileEntries(file, stores)));
    await write(CONFIG_FILE, [Buffer.from(configYaml)]);
    await writeFileAtomic(join(beside, 'state.json'), toJson({ format: FORMAT, version: VERSION, ...state, files }));
  });
  await writeFileAtomic(join(checkpointsFolder(out), 'last.json'), toJson({ checkpoint: name, step: state.step }));
  await prune(out, state.step, keep);
  return folder;
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Steps of the checkpoints there are, newest first. */
export async function checkpointSteps(out: string): Promise<number[]> {
  const names = await readdir(checkpointsFolder(out)).catch(() => []);
  return names.flatMap((name) => stepOfName(name) ?? []).sort((a, b) => b - a);
}

async function prune(out: string, newest: number, keep: number): Promise<void> {
  const steps = await checkpointSteps(out);
  const kept = new Set(steps.filter((step) => step <= newest).slice(0, keep));
  for (const step of steps) {
    if (kept.has(step)) continue;
    const folder = join(checkpointsFolder(out), checkpointName(step));
    // A folder that is half removed must not look like a checkpoint.
    const removed = join(checkpointsFolder(out), `.${checkpointName(step)}.removed`);
    await rename(folder, removed);
    await rm(removed, { recursive: true, force: true });
  }
}

/**
 * The checkpoint that a resume starts from: the one named, or the newest.
 * @param name such as `step_0001000`
 * @throws DataError naming what is wrong, and the newest checkpoint before it that is sound
 */
export async function openCheckpoint(out: string, name?: string): Promise<Checkpoint> {
  const steps = await checkpointSteps(out);
  if (steps.length === 0) throw new DataError(`${out} holds no checkpoint; start the run again with webdino train`);
  if (name !== undefined) {
    const step = stepOfName(name);
    if (step === undefined || !steps.includes(step)) {
      const there = steps.map((one) => checkpointName(one)).join(', ');
      throw new DataError(`${out} holds no checkpoint ${name}; there are ${there}`);
    }
    return readState(out, step);
  }
  return readState(out, (await lastStep(out)) ?? steps[0]);
}

/** What `last.json` says; undefined where it is missing, unreadable or points nowhere: the newest folder counts then. */
async function lastStep(out: string): Promise<number | undefined> {
  try {
    const text = await readFile(join(checkpointsFolder(out), 'last.json'), 'utf8');
    const { checkpoint } = JSON.parse(text) as { checkpoint?: unknown };
    const step = typeof checkpoint === 'string' ? stepOfName(checkpoint) : undefined;
    return step !== undefined && (await checkpointSteps(out)).includes(step) ? step : undefined;
  } catch {
    return undefined;
  }
}

async function readState(out: string, step: number): Promise<Checkpoint> {
  const folder = join(checkpointsFolder(out), checkpointName(step));
  const path = join(folder, 'state.json');
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw await refusal(out, folder, `${path} is missing or not JSON`, cause);
  }
  const problem = stateProblem(value, step);
  if (problem) throw await refusal(out, folder, `${path}: ${problem}`);
  return toCheckpoint(folder, value);
}

/** What state.json holds, after `stateProblem` found none. */
function toCheckpoint(folder: string, value: unknown): Checkpoint {
  const { step, totalSteps, seed, schedule, data, files } = value as CheckpointState & Pick<Checkpoint, 'files'>;
  const state = { step, totalSteps, seed, schedule, data };
  return { folder, state, files, configPath: join(folder, CONFIG_FILE) };
}

function stateProblem(value: unknown, step: number): string | undefined {
  const isRecord = (v: unknown): v is Record<string, unknown> =>
    typeof v === 'object' && v !== null && !Array.isArray(v);
  const isCount = (v: unknown): boolean => Number.isSafeInteger(v) && Number(v) >= 0;
  if (!isRecord(value) || value.format !== FORMAT) return 'this is no checkpoint of webdino';
  if (value.version !== VERSION) return `it has version ${value.version}, this program reads ${VERSION}`;
  if (value.step !== step) return `it is of step ${value.step}, the folder says ${step}`;
  if (!isCount(value.seed) || !isCount(value.totalSteps)) return 'seed or totalSteps is missing';
  const { data, files } = value;
  if (!isRecord(data) || typeof data.path !== 'string' || !isCount(data.length) || typeof data.names !== 'string') {
    return 'the pictures it was trained on are not named';
  }
  if (!isRecord(files)) return 'it lists no files';
  for (const file of [...TENSOR_FILES, CONFIG_FILE]) {
    const entry = files[file];
    if (!isRecord(entry) || !isCount(entry.bytes) || typeof entry.sha256 !== 'string') return `${file} is not listed`;
  }
  return undefined;
}

/**
 * Checks every file of the checkpoint against its size, its SHA-256 and these stores, then loads all values. A checkpoint
 * from before there was a loss scale has none: the present scale stays then, and every step counts as applied.
 * @throws DataError, with nothing written, naming the file, what is wrong and the newest sound checkpoint before it
 */
export async function loadCheckpoint(out: string, checkpoint: Checkpoint, stores: CheckpointStores): Promise<void> {
  const { folder } = checkpoint;
  const problem = await damage(checkpoint);
  if (problem) throw await refusal(out, folder, problem);
  const files: { file: TensorFile; found: ReadonlyMap<string, TensorPlace>; entries: [string, Entry][] }[] = [];
  for (const file of TENSOR_FILES) {
    const found = await tensorPlaces(join(folder, file));
    const entries = fileEntries(file, stores).filter(([name]) => name !== LOSS_SCALE.name || found.has(name));
    const wrong = mismatch(found, entries);
    if (wrong) {
      throw new DataError(
        `${join(folder, file)} does not fit the configuration: ${wrong}. Nothing was loaded; ` +
          `put back the run's configuration (${checkpoint.configPath})`,
      );
    }
    files.push({ file, found, entries });
  }
  const { scale } = readLossScale((await stores.lossScale.readAll()).get(LOSS_SCALE.name)!);
  await stores.lossScale.write(LOSS_SCALE.name, lossScaleState({ scale, appliedSteps: checkpoint.state.step }));
  for (const { file, found, entries } of files) {
    const handle = await open(join(folder, file));
    try {
      for (const group of groups(entries)) {
        const values = new Map<string, Float32Array>();
        for (const [name, { key }] of group) {
          const { begin, end } = found.get(name)!;
          const bytes = new Uint8Array(end - begin);
          const { bytesRead } = await handle.read(bytes, 0, bytes.length, begin);
          if (bytesRead !== bytes.length) throw new DataError(`${join(folder, file)} became shorter while it was read`);
          values.set(key, new Float32Array(bytes.buffer));
        }
        await group[0][1].store.writeAll(values);
      }
    } finally {
      await handle.close();
    }
  }
}

/** What is wrong with the files' sizes and bytes, if anything. */
async function damage({ folder, files }: Checkpoint): Promise<string | undefined> {
  for (const [file, { bytes, sha256 }] of Object.entries(files)) {
    const path = join(folder, file);
    const there = await stat(path).catch(() => undefined);
    if (!there) return `${path} is missing`;
    if (there.size !== bytes) return `${path} has ${there.size} bytes instead of ${bytes}`;
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
    if (hash.digest('hex') !== sha256) return `${path} is damaged: its bytes are not those that were written`;
  }
  return undefined;
}

async function tensorPlaces(path: string): Promise<ReadonlyMap<string, TensorPlace>> {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const length = new Uint8Array(8);
    await handle.read(length, 0, 8, 0);
    const headerBytes = Number(new DataView(length.buffer).getBigUint64(0, true));
    const bytes = new Uint8Array(Math.min(8 + headerBytes, size));
    await handle.read(bytes, 0, bytes.length, 0);
    return readSafetensorsHeader(bytes, size).tensors;
  } finally {
    await handle.close();
  }
}

/** Why tensors of a file are not those that are wanted, if so. */
function mismatch(found: ReadonlyMap<string, TensorPlace>, wanted: readonly [string, Entry][]): string | undefined {
  for (const [name, { shape, dtype }] of wanted) {
    const place = found.get(name);
    if (!place) return `it has no ${name}`;
    if (place.dtype !== dtype) return `${name} has type ${place.dtype} instead of ${dtype}`;
    if (place.shape.join(' ') !== shape.join(' ')) return `${name} is [${place.shape}] instead of [${shape}]`;
  }
  const known = new Set(wanted.map(([name]) => name));
  const extra = [...found.keys()].find((name) => !known.has(name));
  return extra === undefined ? undefined : `it has ${extra}, which the model has not`;
}

/** The error for a checkpoint that cannot be used, with the way on: the newest sound one before it. */
async function refusal(out: string, folder: string, problem: string, cause?: unknown): Promise<DataError> {
  const broken = stepOfName(basename(folder))!;
  for (const step of await checkpointSteps(out)) {
    if (step >= broken) continue;
    const earlier = await readSoundState(out, step);
    if (earlier) {
      const line = `webdino resume ${out} --from ${checkpointName(step)}`;
      return new DataError(`${problem}. Nothing was loaded; go on from the one before it: ${line}`, { cause });
    }
  }
  return new DataError(`${problem}. Nothing was loaded, and there is no earlier checkpoint: start the run again`, {
    cause,
  });
}

async function readSoundState(out: string, step: number): Promise<Checkpoint | undefined> {
  try {
    const folder = join(checkpointsFolder(out), checkpointName(step));
    const value: unknown = JSON.parse(await readFile(join(folder, 'state.json'), 'utf8'));
    if (stateProblem(value, step)) return undefined;
    const checkpoint = toCheckpoint(folder, value);
    return (await damage(checkpoint)) ? undefined : checkpoint;
  } catch {
    return undefined;
  }
}

/**
 * Loads a backbone from a safetensors file into the parameters `backbone.…` of a store: official names, with or without
 * that prefix; other tensors (heads) are left aside.
 * @throws DataError, with nothing written, for a file that is damaged, lacks a parameter or has another shape
 */
export async function loadBackbone(path: string, store: ParameterStore): Promise<void> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`student.pretrained_weights: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  let file: ReturnType<typeof readSafetensors>;
  try {
    file = readSafetensors(bytes);
  } catch (cause) {
    throw new DataError(`student.pretrained_weights: ${path}: ${(cause as Error).message}`, { cause });
  }
  const values = new Map<string, Float32Array>();
  for (const name of store.names) {
    if (!name.startsWith('backbone.')) continue;
    const stored = [name, name.slice('backbone.'.length)].find((one) => file.tensors.has(one));
    if (stored === undefined) throw new DataError(`student.pretrained_weights: ${path} has no ${name}`);
    const { shape } = file.tensors.get(stored)!;
    const wanted = store.get(name).shape;
    if (shape.join(' ') !== wanted.join(' ')) {
      throw new DataError(
        `student.pretrained_weights: ${path}: ${stored} is [${shape}]; this network needs [${wanted}]`,
      );
    }
    values.set(name, file.float32(stored));
  }
  await store.writeAll(values);
}
