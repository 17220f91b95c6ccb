/**
 * Frozen tokens as inputs of a program with a head: recorded into the same program where the model is a network, else read on
 * the CPU side and written in. Levels that share a block share its tensors.
 */

import type { TokenLevels } from '../dinov2/dense_head.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import type { FrozenModel, TokenReader, TokenRequest, Tokens } from './frozen_model.js';

export interface DenseRequest {
  /** [height, width] in pixels of a window. */
  readonly size: readonly [number, number];
  readonly batch: number;
  /** One a level of the head. */
  readonly blocks: readonly number[];
  readonly norm: boolean;
}

function tokenRequest({ size, batch, blocks, norm }: DenseRequest): TokenRequest {
  return { size, batch, blocks: [...new Set(blocks)].sort((a, b) => a - b), norm, patches: true, exactSize: true };
}

/** The place of each of the head's levels among those that are read; a floor has one for all. */
function levelPlaces(blocks: readonly number[], request: TokenRequest, levels: number): number[] {
  return blocks.map((block) => Math.min(request.blocks.indexOf(block), levels - 1));
}

/** Opens the reader of a request. */
export function openTokens(model: FrozenModel, request: DenseRequest): Promise<TokenReader> {
  return model.open(tokenRequest(request));
}

/** Values that one window's tokens take: its row in a feature file. */
export function tokenValues({ grid: [rows, columns], levels, dim }: TokenReader): number {
  return levels * (1 + rows * columns) * dim;
}

/** Tokens of n windows as rows of a feature file, level by level: CLS, then patches. f32 [n, tokenValues] */
export function tokenRows(reader: TokenReader, { cls, patches }: Tokens, n: number): Float32Array {
  const { grid, dim } = reader;
  const perLevel = (1 + grid[0] * grid[1]) * dim;
  const rows = new Float32Array(n * tokenValues(reader));
  for (let i = 0; i < n; i++) {
    for (let level = 0; level < reader.levels; level++) {
      const at = (i * reader.levels + level) * perLevel;
      const own = perLevel - dim;
      rows.set(cls[level].subarray(i * dim, (i + 1) * dim), at);
      rows.set(patches[level].subarray(i * own, (i + 1) * own), at + dim);
    }
  }
  return rows;
}

/** Inputs that hold tokens. */
export class TokenInputs {
  readonly tokens: TokenLevels;
  private readonly cls: Tensor[];
  private readonly patches: Tensor[];

  constructor(
    private readonly program: Program,
    private readonly reader: TokenReader,
    private readonly request: DenseRequest,
  ) {
    const { grid, levels, dim } = reader;
    const [height, width] = grid;
    const { batch, blocks } = request;
    const inputs = (name: string, rows: number): Tensor[] =>
      Array.from({ length: levels }, (_, level) => program.input(`${name} ${level}`, [rows, dim]));
    this.cls = inputs('cls', batch);
    this.patches = inputs('patches', batch * height * width);
    const places = levelPlaces(blocks, tokenRequest(request), levels);
    this.tokens = {
      cls: places.map((place) => this.cls[place]),
      patches: places.map((place) => this.patches[place]),
      pictures: batch,
      height,
      width,
    };
  }

  /** @param tokens of n windows; the rest of the batch is zeros */
  write({ cls, patches }: Tokens, n: number): void {
    const whole = (values: Float32Array, tensor: Tensor): Float32Array => {
      if (values.length === tensor.elements) return values;
      const padded = new Float32Array(tensor.elements);
      padded.set(values.subarray(0, (tensor.elements / this.request.batch) * n));
      return padded;
    };
    this.cls.forEach((tensor, level) => {
      this.program.write(tensor, whole(cls[level], tensor));
    });
    this.patches.forEach((tensor, level) => {
      this.program.write(tensor, whole(patches[level], tensor));
    });
  }

  /** @param rows of a feature file, f32 [batch, tokenValues] */
  writeRows(rows: Float32Array): void {
    const { dim, grid, levels } = this.reader;
    const perLevel = (1 + grid[0] * grid[1]) * dim;
    const own = perLevel - dim;
    const { batch } = this.request;
    if (rows.length !== batch * levels * perLevel)
      throw new GpuError(`${rows.length} token values for ${batch} windows`);
    for (let level = 0; level < levels; level++) {
      const cls = new Float32Array(batch * dim);
      const patches = new Float32Array(batch * own);
      for (let i = 0; i < batch; i++) {
        const at = (i * levels + level) * perLevel;
        cls.set(rows.subarray(at, at + dim), i * dim);
        patches.set(rows.subarray(at + dim, at + perLevel), i * own);
      }
      this.program.write(this.cls[level], cls);
      this.program.write(this.patches[level], patches);
    }
  }
}

/** Pixels in, tokens out, in one program. */
export interface PixelTokens {
  readonly tokens: TokenLevels;
  /** @param pixels u8 [n, height, width, 3] */
  write(pixels: Uint8Array, n: number): Promise<void>;
  dispose(): void;
}

/** Records the way from pixels to tokens; a model without a network is read for each write. */
export async function recordTokens(graph: Graph, model: FrozenModel, request: DenseRequest): Promise<PixelTokens> {
  const { program } = graph;
  const [height, width] = request.size;
  const wanted = tokenRequest(request);
  if (!model.record) {
    const reader = await openTokens(model, request);
    const inputs = new TokenInputs(program, reader, request);
    return {
      tokens: inputs.tokens,
      write: async (pixels, n) => inputs.write(await reader.read(pixels.subarray(0, n * height * width * 3), n), n),
      dispose: () => reader.dispose(),
    };
  }
  const input = program.input('pixels', [Math.ceil((request.batch * height * width * 3) / 4)], 'u32');
  const { cls, patches } = model.record(graph, input, wanted);
  const places = levelPlaces(request.blocks, wanted, cls.length);
  return {
    tokens: {
      cls: places.map((place) => cls[place]),
      patches: places.map((place) => patches[place]),
      pictures: request.batch,
      height: height / model.patchSize,
      width: width / model.patchSize,
    },
    write: async (pixels) => {
      let whole = pixels;
      if (pixels.length !== input.sizeBytes) {
        whole = new Uint8Array(input.sizeBytes);
        whole.set(pixels);
      }
      program.write(input, whole);
    },
    dispose: () => {},
  };
}
