/** What the verbs that use a trained model share: reading their options, opening the model, labelled sources, progress. */

import type { BadPicture } from '../data/picture.js';
import type { VitConfig } from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import { fittingBatch } from '../eval/features.js';
import { type LoadedModel, loadModel, locateModel, type ModelHints, type ModelPlace } from '../eval/model_file.js';
import type { Gpu } from '../gpu/device.js';
import type { Storage } from '../gpu/tensor.js';
import { loadConfig, type ResolvedConfig } from '../train/config.js';
import { Progress } from '../io/progress.js';
import { vitConfig } from '../train/ssl_config.js';

export { openLabelled } from '../eval/labelled_pair.js';

/** Options as the command line gives them: text, or numbers from a program. */
export interface ModelArguments {
  /** Run folder, checkpoint folder or .safetensors file. */
  readonly model: string;
  /** The student in place of the teacher. */
  readonly student?: boolean;
  /** Attention heads, where neither a configuration nor heads of 64 tell. */
  readonly heads?: string | number;
  /** Side of the centre crop in pixels. */
  readonly size?: string | number;
  /** Shorter side before the crop, in pixels. */
  readonly resize?: string | number;
  /** Pictures at a time. */
  readonly batch?: string | number;
  /** How activations are stored: `f32` (default) or `f16`. */
  readonly dtype?: string;
}

/** Official evaluation transform (spec §6.1). */
const OFFICIAL_RESIZE = 256;
const OFFICIAL_CROP = 224;

/** Without `--batch`: what keeps a GPU busy, and what a CPU adapter finishes in a moment. */
const GPU_BATCH = 64;
const SOFTWARE_BATCH = 16;

/** A whole number from 1, or undefined. @throws UsageError for anything else */
export function positiveInteger(option: string, value: string | number | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || value === '') {
    throw new UsageError(`${option} takes a whole number from 1, not ${JSON.stringify(value)}`);
  }
  return number;
}

/** A required option. @throws UsageError when it is missing */
export function required(option: string, value: string | undefined): string {
  if (!value) throw new UsageError(`${option} is missing`);
  return value;
}

/** How activations are stored. @throws UsageError for anything but f32 and f16 */
export function storageNamed(option: string, value = 'f32'): Storage {
  if (value !== 'f32' && value !== 'f16') throw new UsageError(`${option} ${value} is unknown; use f32 or f16`);
  return value;
}

/** A model that is found, and how pictures go into it, before any GPU is opened. */
export interface ModelSettings extends ModelPlace {
  readonly network: 'teacher' | 'student';
  readonly hints: ModelHints;
  readonly config?: ResolvedConfig;
  /** Pixels: centre crop, and shorter side before it. */
  readonly crop: number;
  readonly resize: number;
  readonly batch?: number;
  readonly dtype: Storage;
}

/**
 * Reads the options and finds the files.
 * @throws UsageError for an option that cannot be; DataError if no model is there
 */
export async function findModel(args: ModelArguments): Promise<ModelSettings> {
  const path = required('--model', args.model);
  const numHeads = positiveInteger('--heads', args.heads);
  const size = positiveInteger('--size', args.size);
  const shorter = positiveInteger('--resize', args.resize);
  const batch = positiveInteger('--batch', args.batch);
  const dtype = storageNamed('--dtype', args.dtype);
  const network = args.student ? 'student' : 'teacher';
  const place = await locateModel(path, network);
  const config = place.configPath === undefined ? undefined : loadConfig({ file: place.configPath });
  const usual = {
    crop: config?.evaluation.crop ?? OFFICIAL_CROP,
    resize: config?.evaluation.resize ?? OFFICIAL_RESIZE,
  };
  const crop = size ?? usual.crop;
  // Another crop keeps the usual share of the picture.
  const resize = shorter ?? Math.round((crop * usual.resize) / usual.crop);
  if (resize < crop) {
    throw new UsageError(`--resize ${resize} is smaller than the crop of ${crop} px: pictures would get black borders`);
  }
  const vit = config && vitConfig(config);
  const hints = {
    numHeads: numHeads ?? vit?.numHeads,
    interpolateOffset: vit?.interpolateOffset,
    interpolateAntialias: vit?.interpolateAntialias,
  };
  return { ...place, network, hints, config, crop, resize, batch, dtype };
}

/**
 * Loads the weights.
 * @param options `nearest`: a crop that patches do not divide becomes the nearest that they do
 * @throws DataError for a file that is no backbone or not the configuration's; UsageError for a crop that patches do not divide
 */
export async function openModel(
  gpu: Gpu,
  settings: ModelSettings,
  options: { readonly nearest?: boolean } = {},
): Promise<LoadedModel & { readonly batch: number; readonly crop: number }> {
  const { config, configPath, weightsPath, hints, dtype } = settings;
  const model = await loadModel(gpu, weightsPath, hints);
  try {
    if (config) assertSame(vitConfig(config), model.vit, weightsPath, configPath!);
    const { patchSize } = model.vit;
    const nearest = Math.max(Math.round(settings.crop / patchSize), 1) * patchSize;
    if (settings.crop !== nearest && !options.nearest) {
      throw new UsageError(
        `pictures of ${settings.crop} px do not divide into patches of ${patchSize}: use --size ${nearest}`,
      );
    }
    const usual = gpu.capabilities.software ? SOFTWARE_BATCH : GPU_BATCH;
    const batch = settings.batch ?? fittingBatch(gpu, model.vit, nearest, usual, dtype);
    return { ...model, batch, crop: nearest };
  } catch (error) {
    model.weights.dispose();
    throw error;
  }
}

function assertSame(written: VitConfig, found: VitConfig, weightsPath: string, configPath: string): void {
  for (const key of ['embedDim', 'depth', 'patchSize', 'registers', 'feedForward'] as const) {
    if (written[key] !== found[key]) {
      throw new DataError(
        `${weightsPath} has ${key} ${found[key]}, but ${configPath} says ${written[key]}: they belong to different models`,
      );
    }
  }
}

/** What a model is, in a few words: "384 x 12, 6 heads, patch 14". */
export function describeVit(vit: VitConfig): string {
  const registers = vit.registers > 0 ? `, ${vit.registers} registers` : '';
  return `${vit.embedDim} x ${vit.depth}, ${vit.numHeads} heads, patch ${vit.patchSize}${registers}`;
}

/** Shows pictures going by on standard error, and those that cannot be read. */
export class PictureProgress {
  private readonly progress: Progress;
  private readonly startMs = performance.now();
  private before = 0;
  private done = 0;

  constructor(pictures: number) {
    this.progress = new Progress({ totalSteps: pictures });
  }

  /** Callbacks for `extractFeatures` over the next source. */
  readonly callbacks = {
    onBad: ({ name, reason }: BadPicture): void => this.progress.note(`left out: ${name} ${reason}`),
    onProgress: (done: number): void => {
      this.done = this.before + done;
      const imagesPerSecond = (1000 * this.done) / (performance.now() - this.startMs);
      this.progress.update({ step: this.done, imagesPerSecond });
    },
  };

  /** The source is through: the next one counts on. */
  next(): void {
    this.before = this.done;
  }

  note(text: string): void {
    this.progress.note(text);
  }

  finish(): void {
    this.progress.done();
  }
}
