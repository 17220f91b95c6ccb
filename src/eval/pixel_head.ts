/**
 * A head that predicts a value a pixel from frozen tokens, with what it needs to be used again: which blocks it reads, with or
 * without the final norm, its classes or its range. Tensors have the official names (spec §6.5.2, §6.5.3, §6.6.1).
 */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import {
  linearDepthHead,
  linearDepthParameters,
  segmentationHead,
  segmentationParameters,
  segmentationState,
  type TokenLevels,
} from '../dinov2/dense_head.js';
import { dptHead, dptParameters } from '../dinov2/dpt_head.js';
import { initializeDenseHead } from '../dinov2/initialize_dense.js';
import { weightsOf } from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { writeFileAtomic } from '../io/atomic.js';
import { encodeSafetensors, readSafetensors, type TensorToStore } from '../io/safetensors.js';
import type { FeatureMap } from '../tensor/feature_map.js';
import type { Graph } from '../tensor/graph.js';
import { ParameterStore } from '../tensor/parameters.js';
import type { FrozenModel } from './frozen_model.js';

export const PIXEL_TASKS = ['segment', 'depth', 'canopy'] as const;
export type PixelTask = (typeof PIXEL_TASKS)[number];

/** Protocols of each task; the first is the default. */
export const PROTOCOLS = {
  segment: ['linear', 'ms'],
  depth: ['linear4', 'linear1', 'dpt'],
  canopy: ['dpt', 'linear4', 'linear1'],
} as const satisfies Record<PixelTask, readonly string[]>;
export type Protocol = 'linear' | 'ms' | 'linear1' | 'linear4' | 'dpt';

const headConfigSchema = z.object({
  task: z.enum(PIXEL_TASKS),
  protocol: z.enum(['linear', 'ms', 'linear1', 'linear4', 'dpt']),
  /** Values of a token. */
  dim: z.number().int().positive(),
  /** One a level, shallow to deep; a network of few blocks gives one of them for several levels. */
  blocks: z.array(z.number().int().nonnegative()),
  /** Segmentation: [classes]. */
  classNames: z.array(z.string()),
  /** Depth and heights: the range in metres. */
  min: z.number(),
  max: z.number(),
  /** DPT: channels of the fusion blocks. */
  channels: z.number().int().positive(),
  /** [height, width] in pixels of the windows it was trained on. */
  crop: z.tuple([z.number().int().positive(), z.number().int().positive()]),
  /** Shorter side in pixels of the pictures it was trained on; null where they keep their size. */
  shorterSide: z.number().int().positive().nullable(),
  model: z.object({
    name: z.string(),
    patchSize: z.number().int().positive(),
    depth: z.number().int().positive(),
    /** First values of the CLS token of a known picture: says whether a model is the one the head was trained on. */
    fingerprint: z.array(z.number()),
  }),
});

export type PixelHeadConfig = z.infer<typeof headConfigSchema>;

/** Heights are learned in their logarithm, as depths are; 0 m is no rare height, so one metre is added first. */
export const HEIGHT_OFFSET = 1;

const METADATA_KEY = 'webdino_head';

const DPT_LAST_BIAS = 'decode_head.conv_depth.head.4.bias';

/** PyTorch counts the batches a norm has seen, and its loaders ask for the number. */
const BATCHES_TRACKED = 'decode_head.bn.num_batches_tracked';

/** The official blocks for depth (spec §6.5.1), counted from 0, where a network has the published depth. */
const SPREAD: Readonly<Record<number, readonly number[]>> = { 24: [4, 11, 17, 23] };

/** Blocks that a protocol reads from a network of `depth` blocks. */
export function protocolBlocks(protocol: Protocol, depth: number): number[] {
  if (protocol === 'linear' || protocol === 'linear1') return [depth - 1];
  return [0, 1, 2, 3].map((level) => {
    if (protocol === 'ms') return Math.max(depth - 4 + level, 0);
    return SPREAD[depth]?.[level] ?? Math.max(Math.round(((level + 1) * depth) / 4) - 1, 0);
  });
}

/** Whether a task's heads read tokens after the final norm: segmentation does, depth does not. */
export function readsNormed(task: PixelTask): boolean {
  return task === 'segment';
}

export class PixelHead {
  private constructor(
    readonly gpu: Gpu,
    readonly config: PixelHeadConfig,
    readonly parameters: ParameterStore,
    /** Running statistics of the batch norm. */
    readonly state: ParameterStore | undefined,
  ) {}

  /**
   * A head with initial weights drawn from the seed.
   * @param typical metres: where DPT's last bias starts. Its result is rectified, and from a random bias one seed in two would
   * begin, and stay, at 0 everywhere
   */
  static async create(gpu: Gpu, config: PixelHeadConfig, seed: number, typical = 1): Promise<PixelHead> {
    const head = PixelHead.empty(gpu, config);
    await initializeDenseHead(gpu, head.parameters, seed);
    if (head.parameters.has(DPT_LAST_BIAS)) {
      await head.parameters.write(DPT_LAST_BIAS, Float32Array.of(Math.max(typical - config.min, 0.1)));
    }
    if (head.state) await initializeDenseHead(gpu, head.state, seed);
    return head;
  }

  private static empty(gpu: Gpu, config: PixelHeadConfig): PixelHead {
    const { task, protocol, dim, classNames, min, max, channels } = config;
    if (task === 'segment') {
      const segmentation = { dim, levels: config.blocks.length, classes: classNames.length };
      return new PixelHead(
        gpu,
        config,
        new ParameterStore(gpu, 'head', segmentationParameters(segmentation)),
        new ParameterStore(gpu, 'head statistics', segmentationState(segmentation)),
      );
    }
    if (protocol === 'dpt') {
      return new PixelHead(
        gpu,
        config,
        new ParameterStore(gpu, 'head', dptParameters({ dim, channels, minDepth: 0 })),
        undefined,
      );
    }
    const linear = { dim, levels: config.blocks.length, min, max };
    return new PixelHead(gpu, config, new ParameterStore(gpu, 'head', linearDepthParameters(linear)), undefined);
  }

  /** What is added to metres before they are learned. */
  get offset(): number {
    return this.config.task === 'canopy' ? HEIGHT_OFFSET : 0;
  }

  /** Channels of the map that `record` gives. */
  get outputs(): number {
    return this.config.task === 'segment' ? this.config.classNames.length : 1;
  }

  /** Records the head: logits [B h w, classes] on the patch grid, or metres plus `offset` [B h' w', 1] on a finer one. */
  record(graph: Graph, tokens: TokenLevels, mode: 'training' | 'evaluation'): FeatureMap {
    const { config, offset } = this;
    const weights = weightsOf(this.parameters);
    const { dim, channels, min, max } = config;
    const levels = config.blocks.length;
    if (this.state) {
      const segmentation = { dim, levels, classes: config.classNames.length };
      return segmentationHead(graph, segmentation, weights, weightsOf(this.state), tokens, mode);
    }
    if (config.protocol === 'dpt') return dptHead(graph, { dim, channels, minDepth: min + offset }, weights, tokens);
    return linearDepthHead(graph, { dim, levels, min: min + offset, max: max + offset }, weights, tokens);
  }

  /** Writes a safetensors file. @param iterations how many steps it was trained for */
  async save(path: string, iterations: number): Promise<void> {
    const tensors: [string, TensorToStore][] = [];
    for (const store of [this.parameters, this.state]) {
      for (const [name, data] of (await store?.readAll()) ?? []) {
        tensors.push([name, { dtype: 'F32', shape: store!.get(name).shape, data }]);
      }
    }
    if (this.state) {
      tensors.push([BATCHES_TRACKED, { dtype: 'I64', shape: [], data: BigInt64Array.of(BigInt(iterations)) }]);
    }
    await writeFileAtomic(path, encodeSafetensors(tensors, { [METADATA_KEY]: JSON.stringify(this.config) }));
  }

  /** @throws DataError for a file that `save` did not write */
  static async load(gpu: Gpu, path: string): Promise<PixelHead> {
    const config = await readHeadConfig(path);
    const file = readSafetensors(await readFile(path));
    const head = PixelHead.empty(gpu, config);
    try {
      for (const store of [head.parameters, head.state]) {
        if (!store) continue;
        const values = new Map(store.names.map((name) => [name, file.float32(name)]));
        for (const [name, data] of values) {
          if (data.length !== store.get(name).elements) {
            throw new DataError(
              `${path}: ${name} has ${data.length} values; its head needs ${store.get(name).elements}`,
            );
          }
        }
        await store.writeAll(values);
      }
      return head;
    } catch (error) {
      head.dispose();
      throw error;
    }
  }

  /** @throws UsageError where the model is another one than the head was trained on */
  async assertModel(model: FrozenModel): Promise<void> {
    const { config } = this;
    if (model.dim !== config.dim || model.patchSize !== config.model.patchSize || model.depth !== config.model.depth) {
      throw new UsageError(
        `the head was trained on ${config.model.name} (tokens of ${config.dim}, patch ${config.model.patchSize}, ` +
          `${config.model.depth} blocks), not on ${model.name} (${model.dim}, ${model.patchSize}, ${model.depth})`,
      );
    }
    const expected = config.model.fingerprint;
    const found = await fingerprint(model);
    const length = (values: readonly number[]): number =>
      Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    const distance = length(expected.map((value, i) => value - found[i]));
    // Other cards and half precision change the last digits only.
    if (!(distance <= 0.05 * Math.max(length(expected), 1e-6))) {
      throw new UsageError(
        `the head was trained on ${config.model.name}; ${model.name} has the same sizes but other weights: ` +
          'give the model it was trained on, or train a head for this one with webdino eval',
      );
    }
  }

  dispose(): void {
    this.parameters.dispose();
    this.state?.dispose();
  }
}

/** What a head file says of itself. @throws DataError for another file */
export async function readHeadConfig(path: string): Promise<PixelHeadConfig> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const written = readSafetensors(bytes).metadata[METADATA_KEY];
  const parsed = written === undefined ? undefined : headConfigSchema.safeParse(JSON.parse(written));
  if (!parsed?.success) {
    throw new DataError(
      `${path} is no head of webdino: train one with webdino eval segment, depth or canopy --out DIR`,
    );
  }
  return parsed.data;
}

const FINGERPRINT_PATCHES = 4;
const FINGERPRINT_VALUES = 16;

/** First values of the last block's CLS token of a picture of stripes. */
export async function fingerprint(model: FrozenModel): Promise<number[]> {
  const side = FINGERPRINT_PATCHES * model.patchSize;
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % side, Math.floor(i / (3 * side))];
    return (37 * x + 91 * y + 53 * (i % 3)) % 256;
  });
  const reader = await model.open({
    size: [side, side],
    batch: 1,
    blocks: [model.depth - 1],
    norm: true,
    patches: false,
  });
  try {
    const { cls } = await reader.read(pixels, 1);
    return Array.from(cls[cls.length - 1].subarray(0, FINGERPRINT_VALUES), (value) => Number(value.toPrecision(6)));
  } finally {
    reader.dispose();
  }
}
