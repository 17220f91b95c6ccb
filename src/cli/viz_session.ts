/** What the verbs of `webdino viz` share: opening model and pictures, frames of a size, and what is said at the end. */

import { mkdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import type { ImageSource } from '../data/source.js';
import { UsageError } from '../errors.js';
import type { LoadedModel } from '../eval/model_file.js';
import { type Frame, readFrames, spread } from '../eval/viz/frames.js';
import type { Gpu } from '../gpu/device.js';
import { writeFileAtomic } from '../io/atomic.js';
import { openGpu } from '../node.js';
import {
  describeVit,
  findModel,
  type ModelArguments,
  type ModelSettings,
  openModel,
  PictureProgress,
  positiveInteger,
} from './model.js';

/** Options of the verbs that show patches. */
export interface DenseArguments extends ModelArguments {
  /** At most so many pictures, evenly spread over the source. */
  readonly limit?: string | number;
  /** The central square of the evaluation transform in place of whole pictures. */
  readonly square?: boolean;
  readonly json?: boolean;
}

/** A model on a GPU, and how pictures go into it. */
export interface VizSession {
  readonly gpu: Gpu;
  readonly model: LoadedModel & { readonly batch: number };
  readonly settings: ModelSettings;
}

/** Finds the model, opens the GPU and runs `body`; frees all at the end. */
export async function withModel<T>(settings: ModelSettings, body: (session: VizSession) => Promise<T>): Promise<T> {
  const gpu = await openGpu();
  try {
    const model = await openModel(gpu, settings);
    try {
      return await body({ gpu, model, settings });
    } finally {
      model.weights.dispose();
    }
  } finally {
    gpu.close();
  }
}

/**
 * Pictures of dense features are twice the evaluation's crop by default (448 px for 224), where there is more to see; `--size`
 * is then their shorter side.
 */
export async function findDenseModel(options: ModelArguments): Promise<ModelSettings> {
  const settings = await findModel(options);
  if (options.size !== undefined) return settings;
  return { ...settings, crop: 2 * settings.crop, resize: 2 * settings.resize };
}

/** At most `limit` pictures of a source, read and scaled. @throws DataError if none can be read */
export async function framesOf(
  session: VizSession,
  source: ImageSource,
  options: DenseArguments,
  most: number,
): Promise<Frame[]> {
  const limit = positiveInteger('--limit', options.limit) ?? most;
  const indices = spread(source.length, limit);
  const progress = new PictureProgress(indices.length);
  if (indices.length < source.length) {
    progress.note(`${indices.length} of ${source.length} pictures, evenly spread; --limit takes more`);
  }
  const { settings, model } = session;
  return readFrames(source, indices, {
    shorterSide: settings.crop,
    patchSize: model.vit.patchSize,
    square: options.square ? { resize: settings.resize } : undefined,
    onBad: progress.callbacks.onBad,
  });
}

/** Tokens that go through the network at a time: those of `batch` square pictures. */
export function tokensAtATime({ model, settings }: VizSession): number {
  return model.batch * (1 + model.vit.registers + (settings.crop / model.vit.patchSize) ** 2);
}

/** The line that says what works on what. */
export function describeSession({ gpu, model, settings }: VizSession): string {
  const { network, weightsPath, crop, dtype } = settings;
  return `${network} ${weightsPath} (${describeVit(model.vit)}), ${crop} px, ${dtype} on ${gpu.capabilities.description}`;
}

/** Facts of a session for `--json` and results.json. */
export function sessionFacts({ model, settings }: VizSession): Record<string, unknown> {
  const { embedDim, depth, numHeads, patchSize, registers } = model.vit;
  return {
    model: settings.weightsPath,
    network: settings.network,
    ...(settings.step !== undefined && { step: settings.step }),
    vit: { embedDim, depth, numHeads, patchSize, registers },
    size: settings.crop,
    dtype: settings.dtype,
  };
}

/** Creates the folder. @throws UsageError where a file is in its place */
export async function openFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found && !found.isDirectory()) throw new UsageError(`--out ${path} is a file: give a folder`);
  await mkdir(path, { recursive: true });
}

/** Writes results.json beside the pictures, and says what was written, as JSON or in a line. */
export async function finish(
  out: string,
  results: Record<string, unknown>,
  { json, line }: { readonly json: boolean | undefined; readonly line: string },
): Promise<void> {
  const text = JSON.stringify(results, null, 2);
  await writeFileAtomic(join(out, 'results.json'), `${text}\n`);
  console.log(json ? text : line);
}

/** File names of pictures without their folders and endings; those that would be equal get a number. */
export function fileNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    const base = basename(name, extname(name)).replace(/[^\p{L}\p{N}._-]+/gu, '_') || 'picture';
    let unique = base;
    for (let i = 2; taken.has(unique.toLowerCase()); i++) unique = `${base}_${i}`;
    taken.add(unique.toLowerCase());
    return unique;
  });
}

/** A number from `low` to `high`, or undefined. @throws UsageError for anything else */
export function numberBetween(
  option: string,
  value: string | number | undefined,
  [low, high]: readonly [number, number],
): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (value === '' || !(number >= low && number <= high)) {
    throw new UsageError(`${option} takes a number from ${low} to ${high}, not ${JSON.stringify(value)}`);
  }
  return number;
}
