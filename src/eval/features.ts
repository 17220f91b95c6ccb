/**
 * Frozen features: pictures through a backbone without gradient, recorded once and replayed for every batch.
 *
 * What a picture is worth to a kNN or a probe is its CLS token after the final norm (spec §6.2), its mean patch token, or
 * both side by side. Calls may overlap: each one queues upload, network and read-back before it waits, so the GPU works on
 * one batch while the next is being decoded.
 */

import { type EvaluationOptions, evaluationBatches } from '../data/evaluation_loader.js';
import type { BadPicture } from '../data/picture.js';
import type { ImageSource } from '../data/source.js';
import { finalNorm, patchRows, swigluHidden, tokenRows, type VitConfig, vitForward, weightsOf } from '../dinov2/vit.js';
import { UsageError, WebdinoError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program, type ProgramCost } from '../gpu/program.js';
import { elementBytes, type Storage, type Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import type { ParameterStore } from '../tensor/parameters.js';
import { tokenMeans } from '../tensor/token_means.js';

/** What becomes of a picture's tokens. */
export const POOLINGS = ['cls', 'patch-mean', 'cls+patch-mean'] as const;
export type Pooling = (typeof POOLINGS)[number];

export interface FeatureExtractorOptions {
  readonly vit: VitConfig;
  readonly weights: ParameterStore;
  /** Of the backbone's names in the store, such as `backbone.`. Default: none. */
  readonly prefix?: string;
  /** Most pictures a call. */
  readonly batch: number;
  /** Pixels of a side, or [height, width]; multiples of the patch size. */
  readonly size: number | readonly [number, number];
  /** Default `cls`. */
  readonly pooling?: Pooling;
  /** Whether {@link FeatureExtractor.tokens} is wanted as well. */
  readonly patches?: boolean;
  /** How activations are stored. Default `f32`; with `f16` the weights get a half copy, which stays theirs. */
  readonly dtype?: Storage;
}

/** One backbone at one picture size and batch. */
export class FeatureExtractor {
  readonly vit: VitConfig;
  readonly batch: number;
  /** [height, width] in pixels. */
  readonly size: readonly [number, number];
  readonly pooling: Pooling;
  /** Patches down and across. */
  readonly grid: readonly [number, number];
  /** Values of one picture that `features` gives: D, or 2 D for `cls+patch-mean`. */
  readonly dim: number;
  private readonly program: Program;
  private readonly weights: ParameterStore;
  private readonly pixels: Tensor;
  private readonly cls_: Tensor | undefined;
  private readonly mean: Tensor | undefined;
  private readonly patchTokens: Tensor | undefined;

  /**
   * Records the network; `compile()` must follow.
   * @throws UsageError for a size that patches do not divide, or no picture a batch; GpuError for a width that `dtype` cannot
   * have
   */
  constructor(
    readonly gpu: Gpu,
    options: FeatureExtractorOptions,
  ) {
    const { vit, weights, prefix = '', batch, pooling = 'cls', patches = false, dtype = 'f32' } = options;
    const [height, width] = typeof options.size === 'number' ? [options.size, options.size] : options.size;
    const P = vit.patchSize;
    for (const side of [height, width]) {
      if (!Number.isInteger(side / P) || side < P) {
        const nearest = Math.max(Math.round(side / P), 1) * P;
        throw new UsageError(`pictures of ${height} x ${width} px do not divide into patches of ${P}: use ${nearest}`);
      }
    }
    if (!Number.isInteger(batch) || batch < 1) throw new UsageError(`a batch of ${batch} pictures: give 1 or more`);
    this.vit = vit;
    this.batch = batch;
    this.size = [height, width];
    this.grid = [height / P, width / P];
    this.pooling = pooling;
    this.dim = vit.embedDim * (pooling === 'cls+patch-mean' ? 2 : 1);

    if (dtype === 'f16') weights.makeHalf();
    this.weights = weights;
    const program = new Program(gpu, 'features');
    this.program = program;
    this.pixels = program.input('pixels', [Math.ceil((batch * height * width * 3) / 4)], 'u32');
    const graph = new Graph(program, dtype);
    const backbone = weightsOf(weights, prefix);
    const outputs = graph.withoutGradient(() => {
      const group = { pixels: this.pixels, bytes: true, count: batch, height, width };
      const { tokens, sequences } = vitForward(graph, vit, backbone, [group]);
      const norm = (name: string, rows: number[]): Tensor => {
        const index = program.constant(name, [rows.length], Uint32Array.from(rows));
        return program.keep(finalNorm(graph, backbone, tokens, { index }));
      };
      return {
        cls: pooling === 'patch-mean' ? undefined : norm('cls rows', tokenRows(sequences, 0, 0)),
        mean:
          pooling === 'cls'
            ? undefined
            : program.keep(tokenMeans(graph, finalNorm(graph, backbone, tokens), sequences[0], 1 + vit.registers)),
        patches: patches ? norm('patch rows', patchRows(vit, sequences, 0)) : undefined,
      };
    });
    this.cls_ = outputs.cls;
    this.mean = outputs.mean;
    this.patchTokens = outputs.patches;
  }

  /** Compiles the kernels and takes the memory; brings half copies up to date where the network reads them. */
  async compile(): Promise<void> {
    await this.weights.refreshHalf();
    await this.program.compile();
  }

  /**
   * Pooled features, as `pooling` says.
   * @param pixels u8 [n, height, width, 3], RGB
   * @param n pictures, 1 to `batch`; the rest of the batch is padded and dropped again
   * @returns [n, dim], after the final norm
   */
  async features(pixels: Uint8Array, n: number): Promise<Float32Array> {
    const { cls_: cls, mean, dim } = this;
    const parts = await this.replay(
      pixels,
      n,
      [cls, mean].filter((tensor) => tensor !== undefined),
    );
    if (parts.length === 1) return parts[0].slice(0, n * dim);
    const rows = new Float32Array(n * dim);
    parts.forEach((part, p) => {
      const D = part.length / this.batch;
      for (let i = 0; i < n; i++) rows.set(part.subarray(i * D, (i + 1) * D), i * dim + p * D);
    });
    return rows;
  }

  /** CLS tokens after the final norm, [n, D]; see {@link features}. Not with `patch-mean`. */
  async cls(pixels: Uint8Array, n: number): Promise<Float32Array> {
    const { cls_: cls } = this;
    if (!cls) throw new UsageError(`an extractor of ${this.pooling} has no CLS tokens`);
    const [rows] = await this.replay(pixels, n, [cls]);
    return rows.slice(0, n * this.vit.embedDim);
  }

  /** Patch tokens after the final norm, [n, patches, D], row by row of the picture. Only with `patches`. */
  async tokens(pixels: Uint8Array, n: number): Promise<Float32Array> {
    const { patchTokens } = this;
    if (!patchTokens) throw new UsageError('this extractor was made without patch tokens: set patches');
    const [rows] = await this.replay(pixels, n, [patchTokens]);
    return rows.slice(0, (n * patchTokens.elements) / this.batch);
  }

  /** Queues upload, network and read-back at once; only then the caller waits. */
  private async replay(pixels: Uint8Array, n: number, outputs: readonly Tensor[]): Promise<Float32Array[]> {
    const pictureBytes = this.size[0] * this.size[1] * 3;
    if (!Number.isInteger(n) || n < 1 || n > this.batch) {
      throw new UsageError(`${n} pictures for an extractor of 1 to ${this.batch}`);
    }
    if (pixels.length !== n * pictureBytes) {
      const [height, width] = this.size;
      throw new UsageError(`${pixels.length} bytes of pixels; ${n} x ${height} x ${width} x 3 were expected`);
    }
    if (pixels.length === this.pixels.sizeBytes) {
      this.program.write(this.pixels, pixels);
    } else {
      const padded = new Uint8Array(this.pixels.sizeBytes);
      padded.set(pixels);
      this.program.write(this.pixels, padded);
    }
    this.program.run();
    return (await this.program.readAll(outputs)) as Float32Array[];
  }

  /** Dispatches, FLOPs and memory of one batch. */
  get cost(): ProgramCost {
    return this.program.cost;
  }

  /** Frees the memory; the weights belong to their owner. */
  dispose(): void {
    this.program.dispose();
  }
}

/** Memory of the widest intermediate that a batch should stay under, so that no adapter is asked for gigabytes unasked. */
const WIDEST_BYTES = 512 * 2 ** 20;

/** The largest batch up to `wanted` whose widest activation fits this adapter's bindings; at least 1. */
export function fittingBatch(gpu: Gpu, vit: VitConfig, size: number, wanted: number, dtype: Storage = 'f32'): number {
  const tokens = 1 + vit.registers + (size / vit.patchSize) ** 2;
  const hidden = vit.feedForward === 'swiglu' ? 2 * swigluHidden(vit) : vit.embedDim * vit.mlpRatio;
  const pictureBytes = elementBytes(dtype) * tokens * Math.max(hidden, 3 * vit.embedDim);
  const limit = Math.min(gpu.capabilities.maxBindingSizeBytes, WIDEST_BYTES);
  return Math.max(1, Math.min(wanted, Math.floor(limit / pictureBytes)));
}

/** Features of a source's usable pictures, in its order. */
export interface SourceFeatures {
  /** [n, dim] */
  readonly features: Float32Array;
  readonly dim: number;
  /** [n]: places in the source. */
  readonly indices: readonly number[];
  /** [n]: undefined where the source knows none. */
  readonly labels: readonly (number | undefined)[];
}

export interface ExtractOptions {
  /** Shorter side after resizing, in pixels (spec §6.1: 256 for crops of 224). */
  readonly resize: number;
  /** Which pictures. Default: all. */
  readonly indices?: readonly number[];
  /** Called for each picture that cannot be read. */
  readonly onBad?: (bad: BadPicture) => void;
  /** Called with the number of pictures done. */
  readonly onProgress?: (done: number) => void;
}

/** Batches whose features may be under way at once: one on the GPU, one being read back or decoded. */
const BATCHES_IN_FLIGHT = 2;

/**
 * Runs every batch of a source through `compute`, two at a time, and collects the rows.
 * @param compute gives [n, dim] for u8 pixels [n, crop, crop, 3]
 */
export async function collectFeatures(
  source: ImageSource,
  options: Omit<EvaluationOptions, 'onBad'> & ExtractOptions & { readonly dim: number },
  compute: (pixels: Uint8Array, n: number) => Promise<Float32Array>,
): Promise<SourceFeatures> {
  const { resize, crop, batchSize, indices: wanted, dim, onBad, onProgress } = options;
  const features = new Float32Array((wanted?.length ?? source.length) * dim);
  const indices: number[] = [];
  const underWay: { indices: readonly number[]; rows: Promise<Float32Array> }[] = [];
  const takeOldest = async (): Promise<void> => {
    const batch = underWay.shift()!;
    const rows = await batch.rows;
    if (rows.length !== batch.indices.length * dim) {
      throw new WebdinoError(`${rows.length} values for ${batch.indices.length} pictures of ${dim} features`);
    }
    features.set(rows, indices.length * dim);
    indices.push(...batch.indices);
    onProgress?.(indices.length);
  };
  try {
    for await (const batch of evaluationBatches(source, { resize, crop, batchSize, indices: wanted, onBad })) {
      const rows = compute(batch.pixels, batch.indices.length);
      // It is awaited in its turn; until then a failure must not count as unhandled.
      rows.catch(() => {});
      underWay.push({ indices: batch.indices, rows });
      if (underWay.length >= BATCHES_IN_FLIGHT) await takeOldest();
    }
    while (underWay.length > 0) await takeOldest();
  } finally {
    await Promise.allSettled(underWay.map((batch) => batch.rows));
  }
  return {
    features: features.subarray(0, indices.length * dim),
    dim,
    indices,
    labels: indices.map((index) => source.label(index)),
  };
}

/**
 * Features of all usable pictures of a source through the evaluation transform (spec §6.1): shorter side to `resize`,
 * centre crop to the extractor's size. The last batch is padded on the GPU, never dropped.
 * @throws DataError if every picture is corrupt; UsageError for an extractor that is not square
 */
export function extractFeatures(
  extractor: FeatureExtractor,
  source: ImageSource,
  options: ExtractOptions,
): Promise<SourceFeatures> {
  const [crop, width] = extractor.size;
  if (crop !== width) throw new UsageError(`the evaluation crop is square; this extractor takes ${crop} x ${width} px`);
  const { batch, dim } = extractor;
  return collectFeatures(source, { ...options, crop, batchSize: batch, dim }, (pixels, n) =>
    extractor.features(pixels, n),
  );
}
