/** A backbone on the GPU as a frozen model: its tokens after any blocks, with or without the final norm. */

import {
  finalNorm,
  patchRows,
  tokenRows,
  type VitConfig,
  type VitTokens,
  vitForward,
  weightsOf,
} from '../dinov2/vit.js';
import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { gatherRows } from '../tensor/gather_rows.js';
import { Graph } from '../tensor/graph.js';
import type { ParameterStore } from '../tensor/parameters.js';
import { tokenMeans } from '../tensor/token_means.js';
import type { FrozenModel, TokenReader, TokenRequest, Tokens, TokenTensors } from './frozen_model.js';

export interface NetworkModelOptions {
  readonly name: string;
  readonly vit: VitConfig;
  /** The model takes them over and disposes of them. */
  readonly weights: ParameterStore;
  /** Of the backbone's names in the store, such as `backbone.`. Default: none. */
  readonly prefix?: string;
  readonly floor?: boolean;
  /** How `open` stores activations; what it reads back is float32 either way. Default `f32`. */
  readonly dtype?: Storage;
}

/** @throws UsageError for what {@link FrozenModel.open} cannot do */
export function networkModel(gpu: Gpu, options: NetworkModelOptions): FrozenModel {
  const { name, vit, weights, prefix = '', floor = false, dtype = 'f32' } = options;
  const backbone = weightsOf(weights, prefix);
  const record = (graph: Graph, pixels: Tensor, request: TokenRequest): TokenTensors => {
    checkRequest(vit, request);
    const [height, width] = request.size;
    const group = { pixels, bytes: true, count: request.batch, height, width };
    return graph.withoutGradient(() => {
      const all = vitForward(graph, vit, backbone, [group], { layers: request.blocks });
      return levelTokens(graph, vit, all, request, (tokens, index) =>
        request.norm ? finalNorm(graph, backbone, tokens, { index }) : gatherRows(graph, tokens, index),
      );
    });
  };
  return {
    name,
    floor,
    patchSize: vit.patchSize,
    dim: vit.embedDim,
    depth: vit.depth,
    record,
    network: { vit, weights, prefix },
    open: async (request) => {
      if (dtype === 'f16') weights.makeHalf();
      await weights.refreshHalf();
      const reader = new NetworkReader(gpu, vit, request, dtype, record);
      await reader.compile();
      return reader;
    },
    dispose: () => weights.dispose(),
  };
}

function checkRequest({ patchSize, depth }: VitConfig, { size, batch, blocks }: TokenRequest): void {
  checkTokenSize(patchSize, size);
  if (!Number.isInteger(batch) || batch < 1) throw new UsageError(`a batch of ${batch} pictures: give 1 or more`);
  const wrong = blocks.find(
    (block, i) => !Number.isInteger(block) || block < 0 || block >= depth || block <= (blocks[i - 1] ?? -1),
  );
  if (wrong !== undefined || blocks.length === 0) {
    throw new UsageError(`blocks ${blocks.join(', ') || 'none'}: give increasing numbers from 0 to ${depth - 1}`);
  }
}

/** @throws UsageError for a side that patches do not divide, naming the nearest that they do */
export function checkTokenSize(patchSize: number, [height, width]: readonly [number, number]): void {
  for (const side of [height, width]) {
    if (!Number.isInteger(side / patchSize) || side < patchSize) {
      const nearest = Math.max(Math.round(side / patchSize), 1) * patchSize;
      throw new UsageError(
        `pictures of ${height} x ${width} px do not divide into patches of ${patchSize}: use ${nearest} for ${side}`,
      );
    }
  }
}

function levelTokens(
  graph: Graph,
  vit: VitConfig,
  { layers, sequences }: VitTokens,
  { blocks, patches, mean = false }: TokenRequest,
  pick: (tokens: Tensor, index: Tensor) => Tensor,
): TokenTensors {
  const index = (name: string, rows: number[]): Tensor =>
    graph.program.constant(name, [rows.length], Uint32Array.from(rows));
  const clsIndex = index('cls rows', tokenRows(sequences, 0, 0));
  const patchIndex = patches || mean ? index('patch rows', patchRows(vit, sequences, 0)) : undefined;
  const levels = blocks.map((block) => layers.get(block)!);
  const wanted = patches ? levels : mean ? levels.slice(-1) : [];
  const patchLevels = patchIndex ? wanted.map((tokens) => pick(tokens, patchIndex)) : [];
  const [{ count, length }] = sequences;
  const grid = { count, length: length - 1 - vit.registers };
  return {
    cls: levels.map((tokens) => pick(tokens, clsIndex)),
    patches: patches ? patchLevels : [],
    mean: mean ? tokenMeans(graph, patchLevels[patchLevels.length - 1], grid, 0) : undefined,
  };
}

/** A recorded network and its read-back. */
class NetworkReader implements TokenReader {
  readonly grid: readonly [number, number];
  readonly levels: number;
  readonly dim: number;
  private readonly program: Program;
  private readonly pixels: Tensor;
  private readonly tokens: TokenTensors;

  constructor(
    gpu: Gpu,
    vit: VitConfig,
    private readonly request: TokenRequest,
    dtype: Storage,
    record: (graph: Graph, pixels: Tensor, request: TokenRequest) => TokenTensors,
  ) {
    const [height, width] = request.size;
    this.grid = [height / vit.patchSize, width / vit.patchSize];
    this.levels = request.blocks.length;
    this.dim = vit.embedDim;
    this.program = new Program(gpu, 'frozen tokens');
    this.pixels = this.program.input('pixels', [Math.ceil((request.batch * height * width * 3) / 4)], 'u32');
    this.tokens = record(new Graph(this.program, dtype), this.pixels, request);
    for (const tensor of this.outputs) this.program.keep(tensor);
  }

  private get outputs(): Tensor[] {
    const { cls, patches, mean } = this.tokens;
    return [...cls, ...patches, ...(mean ? [mean] : [])];
  }

  async compile(): Promise<void> {
    await this.program.compile();
  }

  async read(pixels: Uint8Array, n: number): Promise<Tokens> {
    const { request, program, tokens, levels } = this;
    checkPixels(request, pixels, n);
    let whole = pixels;
    if (pixels.length !== this.pixels.sizeBytes) {
      whole = new Uint8Array(this.pixels.sizeBytes);
      whole.set(pixels);
    }
    program.write(this.pixels, whole);
    program.run();
    const all = (await program.readAll(this.outputs)) as Float32Array[];
    // What pads the batch is dropped again.
    const used = all.map((values) => values.subarray(0, (values.length / request.batch) * n));
    const patchesEnd = levels + tokens.patches.length;
    return { cls: used.slice(0, levels), patches: used.slice(levels, patchesEnd), mean: used[patchesEnd] };
  }

  dispose(): void {
    this.program.dispose();
  }
}

/** @throws UsageError for pixels that are not those of n pictures of the request */
export function checkPixels({ size: [height, width], batch }: TokenRequest, pixels: Uint8Array, n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > batch) throw new UsageError(`${n} pictures for a reader of 1 to ${batch}`);
  if (pixels.length !== n * height * width * 3) {
    throw new UsageError(`${pixels.length} bytes of pixels; ${n} x ${height} x ${width} x 3 were expected`);
  }
}
