/**
 * A trained backbone from disk: found in a run folder, a checkpoint folder or a .safetensors file, its architecture read off
 * the shapes, its weights loaded by the official rules (spec §1.10): keys lose `module.` and `backbone.`, chunked blocks
 * become flat, heads are left aside. A file that lacks a tensor, or has one of the wrong shape, is refused whole.
 *
 * Shapes say everything but the number of heads and how positions are interpolated; those come from the run's configuration
 * or are guessed as the published models have them. Node only.
 */

import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type FeedForward, swigluHidden, type VitConfig, vitParameters } from '../dinov2/vit.js';
import { DataError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import {
  bfloat16ToFloat32,
  halfToFloat32,
  MAX_HEADER_BYTES,
  readSafetensorsHeader,
  type TensorPlace,
} from '../io/safetensors.js';
import { ParameterStore } from '../tensor/parameters.js';

/** A checkpoint's folder, by the steps trained. */
const STEP_FOLDER = /^step_(\d+)$/;

/** Where a model lies. */
export interface ModelPlace {
  /** The .safetensors file. */
  readonly weightsPath: string;
  /** The resolved configuration of the run that wrote it, where there is one. */
  readonly configPath?: string;
  /** The run's folder, where results about it belong. */
  readonly runFolder?: string;
  /** Steps trained, where the checkpoint's name tells. */
  readonly step?: number;
}

/**
 * Finds the weights that a person means by a path.
 * @param path a run folder (its last checkpoint counts), a checkpoint folder, or a .safetensors file
 * @param network which network of a checkpoint; ignored for a file
 * @throws DataError if there is nothing there that holds a model
 */
export async function locateModel(path: string, network: 'teacher' | 'student' = 'teacher'): Promise<ModelPlace> {
  const found = await stat(path).catch((cause: unknown) => {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new DataError(missing ? `${path} does not exist` : `${path} cannot be opened: ${reasonOf(cause)}`, { cause });
  });
  if (!found.isDirectory()) return describePlace(path);
  const checkpoint = await lastCheckpoint(join(path, 'checkpoints'));
  if (checkpoint) return describePlace(join(path, 'checkpoints', checkpoint, `${network}.safetensors`));
  if (await isFile(join(path, `${network}.safetensors`))) return describePlace(join(path, `${network}.safetensors`));
  const files = (await readdir(path)).filter((name) => name.endsWith('.safetensors')).sort();
  if (files.length === 1 && network === 'teacher') return describePlace(join(path, files[0]));
  if (files.length > 1) {
    throw new DataError(`${path} has no ${network}.safetensors but ${files.join(', ')}: give one of these files`);
  }
  throw new DataError(
    `${path} holds no model: a run folder has checkpoints/step_N, a checkpoint folder has ${network}.safetensors`,
  );
}

/** The folder that `last.json` names (`{"checkpoint": "step_0000500"}`); without a sound one, that of the most steps. */
async function lastCheckpoint(checkpoints: string): Promise<string | undefined> {
  const there = await readdir(checkpoints).catch((): string[] => []);
  try {
    const last = JSON.parse(await readFile(join(checkpoints, 'last.json'), 'utf8')) as { checkpoint?: unknown } | null;
    const named = there.find((name) => name === last?.checkpoint && STEP_FOLDER.test(name));
    if (named) return named;
  } catch {
    // Missing, or torn by a crash: the newest checkpoint counts.
  }
  const steps = (name: string): number => Number(STEP_FOLDER.exec(name)![1]);
  return there.filter((name) => STEP_FOLDER.test(name)).sort((a, b) => steps(b) - steps(a))[0];
}

/** The run around a weights file: RUN/checkpoints/step_N/FILE, or a config.yaml in the same folder. */
async function describePlace(weightsPath: string): Promise<ModelPlace> {
  if (!(await isFile(weightsPath))) throw new DataError(`${weightsPath} does not exist`);
  const folder = dirname(weightsPath);
  const steps = STEP_FOLDER.exec(basename(folder));
  const checkpoints = dirname(folder);
  const runFolder = steps && basename(checkpoints) === 'checkpoints' ? dirname(checkpoints) : undefined;
  // A checkpoint's own configuration first: the run's may have been changed when it went on.
  const configs = [folder, runFolder].filter((at) => at !== undefined).map((at) => join(at, 'config.yaml'));
  const present = await Promise.all(configs.map(isFile));
  const configPath = configs.find((_, i) => present[i]);
  return {
    weightsPath,
    configPath,
    runFolder: runFolder ?? (configPath ? folder : undefined),
    step: steps ? Number(steps[1]) : undefined,
  };
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What shapes do not tell. */
export interface ModelHints {
  /** Default: heads of 64, as in all published models. */
  readonly numHeads?: number;
  /** Default: 0.1 without registers, 0 with them (spec §1.10). */
  readonly interpolateOffset?: number;
  /** Default: only with registers (spec §1.10). */
  readonly interpolateAntialias?: boolean;
}

/** A backbone on the GPU. */
export interface LoadedModel {
  readonly vit: VitConfig;
  /** The backbone's parameters, by their official names without prefix. Its owner disposes of it. */
  readonly weights: ParameterStore;
}

/** The official loader's rule: drop `module.`, then `backbone.`, anywhere; then the chunk of `blocks.CHUNK.BLOCK.`. */
export function officialName(key: string): string {
  return key
    .replaceAll('module.', '')
    .replaceAll('backbone.', '')
    .replace(/^teacher\./, '')
    .replace(/^blocks\.\d+\.(\d+\.)/, 'blocks.$1');
}

/** Names that belong to a backbone; what else a checkpoint holds (heads, centres) is not read. */
const BACKBONE_NAME =
  /^(cls_token|pos_embed|mask_token|register_tokens|patch_embed\..+|blocks\..+|norm\.(weight|bias))$/;

/** Names in files of other libraries, which need renaming before they load here. */
const FOREIGN_NAMES: readonly (readonly [RegExp, string])[] = [
  [/(^|\.)embeddings\.(cls_token|patch_embeddings)/, 'Hugging Face'],
  [/(^|\.)reg_token$/, 'timm'],
];

/**
 * The architecture that a set of official names and shapes belongs to.
 * @param shapes by official name, heads left aside
 * @throws DataError for shapes that are no DINOv2 backbone
 */
export function inferVitConfig(
  shapes: ReadonlyMap<string, readonly number[]>,
  { numHeads, interpolateOffset, interpolateAntialias }: ModelHints = {},
): VitConfig {
  const shapeOf = (name: string, dimensions: number): readonly number[] => {
    const shape = shapes.get(name);
    if (!shape) throw new DataError(`tensor ${name} is missing`);
    if (shape.length !== dimensions) {
      throw new DataError(
        `tensor ${name} is [${shape.join(', ')}]; a DINOv2 backbone has ${dimensions} dimensions there`,
      );
    }
    return shape;
  };
  const [D, channels, patchSize, patchWidth] = shapeOf('patch_embed.proj.weight', 4);
  if (channels !== 3 || patchSize !== patchWidth) {
    throw new DataError(
      `patches of ${channels} channels, ${patchSize} x ${patchWidth} px: only square RGB patches are read`,
    );
  }
  const positions = shapeOf('pos_embed', 3)[1];
  const side = Math.round(Math.sqrt(positions - 1));
  if (side < 1 || side * side !== positions - 1) {
    throw new DataError(`pos_embed has ${positions} positions, which is not 1 + a square`);
  }
  const blocks = [...shapes.keys()].flatMap((name) => /^blocks\.(\d+)\./.exec(name)?.[1] ?? []).map(Number);
  const depth = blocks.reduce((most, block) => Math.max(most, block + 1), 0);
  if (depth < 1) throw new DataError('there are no transformer blocks');

  const registers = shapes.has('register_tokens') ? shapeOf('register_tokens', 3)[1] : 0;
  const heads = numHeads ?? D / 64;
  if (!Number.isInteger(heads) || heads < 1 || D % heads !== 0) {
    const cause =
      numHeads === undefined ? 'does not divide into heads of 64' : `does not divide into ${numHeads} heads`;
    throw new DataError(`its width ${D} ${cause}: give the number of heads (--heads)`);
  }
  const base = {
    imageSize: side * patchSize,
    patchSize,
    embedDim: D,
    depth,
    numHeads: heads,
    qkvBias: shapes.has('blocks.0.attn.qkv.bias'),
    projBias: shapes.has('blocks.0.attn.proj.bias'),
    // Only whether there is a LayerScale counts here: its values are loaded.
    layerScale: shapes.has('blocks.0.ls1.gamma') ? 1 : undefined,
    registers,
    interpolateOffset: interpolateOffset ?? (registers > 0 ? 0 : 0.1),
    interpolateAntialias: interpolateAntialias ?? registers > 0,
  };
  const feedForward = (kind: FeedForward, layer: string, mlpRatio: number): VitConfig => ({
    ...base,
    feedForward: kind,
    mlpRatio,
    ffnBias: shapes.has(`blocks.0.mlp.${layer}.bias`),
  });
  if (shapes.has('blocks.0.mlp.w3.weight')) {
    const hidden = shapeOf('blocks.0.mlp.w3.weight', 2)[1];
    const ratio = swigluRatio((mlpRatio) => swigluHidden(feedForward('swiglu', 'w12', mlpRatio)), D, hidden);
    return feedForward('swiglu', 'w12', ratio);
  }
  if (shapes.has('blocks.0.mlp.fc1.weight')) {
    const hidden = shapeOf('blocks.0.mlp.fc1.weight', 2)[0];
    // The width is D · ratio rounded down; half a unit more keeps the rounding of the ratio itself out of it.
    return feedForward('mlp', 'fc1', hidden % D === 0 ? hidden / D : (hidden + 0.5) / D);
  }
  return feedForward('identity', 'none', 4);
}

/** The ratio that gives a SwiGLU of this width: 4 where that does, else the width's own. */
function swigluRatio(hiddenOf: (ratio: number) => number, D: number, hidden: number): number {
  const ratio = [4, (1.5 * hidden + 0.5) / D].find((candidate) => hiddenOf(candidate) === hidden);
  if (ratio === undefined) throw new DataError(`its SwiGLU is ${hidden} wide, which is not a multiple of 8`);
  return ratio;
}

/**
 * Loads the backbone of a .safetensors file (F32, F16, BF16 or F64), one tensor at a time.
 * @throws DataError naming the file and what is wrong in it
 */
export async function loadModel(gpu: Gpu, weightsPath: string, hints: ModelHints = {}): Promise<LoadedModel> {
  let file: FileHandle;
  try {
    file = await open(weightsPath, 'r');
  } catch (cause) {
    throw new DataError(`${weightsPath} cannot be opened: ${reasonOf(cause)}`, { cause });
  }
  let weights: ParameterStore | undefined;
  try {
    const places = await readPlaces(file);
    const byName = backbonePlaces(places);
    const vit = inferVitConfig(new Map([...byName].map(([name, place]) => [name, place.shape])), hints);
    const specs = vitParameters(vit);
    checkShapes(byName, specs);
    weights = new ParameterStore(gpu, `weights of ${basename(weightsPath)}`, specs);
    let pendingBytes = 0;
    for (const { name, shape } of specs) {
      const place = byName.get(name);
      const elements = shape.reduce((product, size) => product * size, 1);
      await weights.write(name, place ? await readFloats(file, place, name) : new Float32Array(elements));
      pendingBytes += 4 * elements;
      // The queue holds a copy of what is written until it has run.
      if (pendingBytes > 256 * 2 ** 20) {
        await gpu.finish();
        pendingBytes = 0;
      }
    }
    await gpu.finish();
    return { vit, weights };
  } catch (error) {
    weights?.dispose();
    if (error instanceof DataError) throw new DataError(`${weightsPath}: ${error.message}`, { cause: error });
    throw error;
  } finally {
    await file.close();
  }
}

/** The tensors of an open .safetensors file. @throws DataError for another format */
export async function readPlaces(file: FileHandle): Promise<Map<string, TensorPlace>> {
  const { size } = await file.stat();
  const start = await readBytes(file, 0, Math.min(size, 8));
  if (start.length >= 2 && start[0] === 0x50 && start[1] === 0x4b) {
    throw new DataError('this is a PyTorch file or another zip archive: give the weights as .safetensors');
  }
  const headerBytes = start.length < 8 ? 0 : Number(new DataView(start.buffer).getBigUint64(0, true));
  const header = await readBytes(file, 0, Math.min(size, 8 + Math.min(headerBytes, MAX_HEADER_BYTES)));
  return readSafetensorsHeader(header, size).tensors;
}

/** The backbone's tensors by their official names. @throws DataError where there are none, or two networks */
export function backbonePlaces(places: ReadonlyMap<string, TensorPlace>): Map<string, TensorPlace> {
  for (const [pattern, library] of FOREIGN_NAMES) {
    if ([...places.keys()].some((key) => pattern.test(key))) {
      throw new DataError(`its tensors are named as ${library} names them: rename them to the official DINOv2 names`);
    }
  }
  const byName = new Map<string, TensorPlace>();
  const keys = new Map<string, string>();
  for (const [key, place] of places) {
    const name = officialName(key);
    if (!BACKBONE_NAME.test(name)) continue;
    const other = keys.get(name);
    if (other) throw new DataError(`${other} and ${key} are both ${name}: it holds two networks, give a file with one`);
    keys.set(name, key);
    byName.set(name, place);
  }
  if (byName.has('patch_embed.proj.weight') && byName.has('cls_token')) return byName;
  const shown = [...places.keys()].slice(0, 4).join(', ') || 'nothing';
  throw new DataError(`it holds no backbone (cls_token, patch_embed.proj.weight, ...); it has ${shown}`);
}

/** Every parameter is there with its shape, and nothing is left that the network would ignore. */
function checkShapes(
  places: ReadonlyMap<string, TensorPlace>,
  specs: readonly { readonly name: string; readonly shape: readonly number[] }[],
): void {
  // The mask token is used in training only; other libraries drop it.
  const missing = specs.filter(({ name }) => !places.has(name) && name !== 'mask_token').map(({ name }) => name);
  if (missing.length > 0) {
    throw new DataError(`${plural(missing.length, 'tensor')} missing: ${firstOf(missing)}; the file is incomplete`);
  }
  for (const { name, shape } of specs) {
    const found = places.get(name)?.shape;
    if (found && (found.length !== shape.length || found.some((size, i) => size !== shape[i]))) {
      throw new DataError(`tensor ${name} is [${found.join(', ')}]; this architecture needs [${shape.join(', ')}]`);
    }
  }
  const known = new Set(specs.map(({ name }) => name));
  const unknown = [...places.keys()].filter((name) => !known.has(name));
  if (unknown.length > 0) {
    throw new DataError(
      `${plural(unknown.length, 'tensor')} of the backbone would not be used: ${firstOf(unknown)}; this is another architecture`,
    );
  }
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function firstOf(names: readonly string[]): string {
  return names.slice(0, 3).join(', ') + (names.length > 3 ? ', ...' : '');
}

async function readBytes(file: FileHandle, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - begin);
  let done = 0;
  while (done < bytes.length) {
    // One read of 2 GiB or more fails on Linux.
    const { bytesRead } = await file.read(bytes, done, Math.min(bytes.length - done, 2 ** 30), begin + done);
    if (bytesRead === 0) throw new DataError('it became shorter while it was read');
    done += bytesRead;
  }
  return bytes;
}

/** One tensor as float32. @throws DataError for whole numbers */
export async function readFloats(
  file: FileHandle,
  { dtype, begin, end }: TensorPlace,
  name: string,
): Promise<Float32Array> {
  const { buffer } = await readBytes(file, begin, end);
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer);
    case 'F16':
      return halfToFloat32(new Uint16Array(buffer));
    case 'BF16':
      return bfloat16ToFloat32(new Uint16Array(buffer));
    case 'F64':
      return Float32Array.from(new Float64Array(buffer));
    default:
      throw new DataError(`tensor ${name} has type ${dtype}; floating numbers were expected`);
  }
}
