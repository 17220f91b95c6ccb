/**
 * What an evaluation sees of a model: frozen tokens of pictures, by levels. A network is one; so are the floors that every
 * learned feature must beat (random weights, raw pixels, colour histograms), which makes every protocol run on them alike.
 */

import type { VitConfig } from '../dinov2/vit.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import type { ParameterStore } from '../tensor/parameters.js';

/** Which tokens of a model are wanted. */
export interface TokenRequest {
  /** [height, width] in pixels, multiples of the patch size. */
  readonly size: readonly [number, number];
  /** Most pictures a call. */
  readonly batch: number;
  /** Blocks from 0, increasing. A floor has one level and gives it for any request. */
  readonly blocks: readonly number[];
  /** Whether each level goes through the final norm (classification, segmentation) or not (depth, spec §6.5.1). */
  readonly norm: boolean;
  /** Whether patch tokens are wanted beside CLS. */
  readonly patches: boolean;
  /**
   * Whether the network must see `size` as it is, as windows of dense tasks. Else `size` is the evaluation crop, which a model
   * trained at another size takes at its own. Default: no.
   */
  readonly exactSize?: boolean;
  /** Whether the mean patch token of the deepest level is wanted (linear probes, spec §6.3). Default: no. */
  readonly mean?: boolean;
}

/** Tokens of n pictures, on the CPU. */
export interface Tokens {
  /** Shallow to deep; [n, D] each. */
  readonly cls: readonly Float32Array[];
  /** Shallow to deep; [n, rows * columns, D] each, row by row of the picture. Empty where none were wanted. */
  readonly patches: readonly Float32Array[];
  /** [n, D] where it was wanted. */
  readonly mean?: Float32Array;
}

/** The same as tensors of a graph that is being recorded: [batch, D] and [batch * rows * columns, D]. */
export interface TokenTensors {
  readonly cls: readonly Tensor[];
  readonly patches: readonly Tensor[];
  /** f32 [batch, D] where it was wanted. */
  readonly mean?: Tensor;
}

/** One model at one picture size and batch. */
export interface TokenReader {
  /** Patches down and across. */
  readonly grid: readonly [number, number];
  /** Levels that a call gives: as many as blocks were asked for, or 1 of a floor. */
  readonly levels: number;
  /** Values of a token. */
  readonly dim: number;
  /**
   * Calls may overlap: each queues its work before it waits.
   * @param pixels u8 [n, height, width, 3], RGB
   * @param n 1 to `batch`
   */
  read(pixels: Uint8Array, n: number): Promise<Tokens>;
  /** Frees what the reader holds; the model stays. */
  dispose(): void;
}

export interface FrozenModel {
  /** What tables call it: `teacher of runs/a`, `random weights`, `raw pixels`. */
  readonly name: string;
  /** Whether it is there to be beaten. */
  readonly floor: boolean;
  readonly patchSize: number;
  /** Values of a token. */
  readonly dim: number;
  /** Blocks of the network; 1 for a floor without any. */
  readonly depth: number;
  /** @throws UsageError for a size that patches do not divide, or a block that is not there */
  open(request: TokenRequest): Promise<TokenReader>;
  /**
   * Records the frozen network into a graph, for heads that train on pictures end to end. Absent where there is no network.
   * @param pixels u32 words of u8 [batch, height, width, 3]
   */
  record?(graph: Graph, pixels: Tensor, request: TokenRequest): TokenTensors;
  /** The network itself, for what trains a copy of it further. Absent where there is none, or where pictures are scaled for it. */
  readonly network?: { readonly vit: VitConfig; readonly weights: ParameterStore; readonly prefix: string };
  dispose(): void;
}
