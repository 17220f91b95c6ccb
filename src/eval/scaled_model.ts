/**
 * A model that sees the pictures of a shared evaluation at a size of its own: models trained at 96 and at 224 pixels are
 * judged on the same crops, each scaled to what it was trained at.
 */

import { resizeInto } from '../data/resize.js';
import { UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import type { FrozenModel, TokenReader, TokenRequest, Tokens, TokenTensors } from './frozen_model.js';

/**
 * Requests for an exact size reach the model as they are.
 * @param scale pixels the model sees for one pixel of a request, along a side; sizes are rounded to whole patches
 * @returns the model itself where nothing changes; else one that frees `model` when it is disposed of and records windows of
 *   an exact size only
 */
export function scaledModel(model: FrozenModel, scale: number): FrozenModel {
  if (scale === 1) return model;
  const { name, floor, patchSize, dim, depth } = model;
  const record = model.record?.bind(model);
  const own = (pixels: number): number => Math.max(Math.round((pixels * scale) / patchSize), 1) * patchSize;
  return {
    name,
    floor,
    patchSize,
    dim,
    depth,
    open: async (request) => {
      if (request.exactSize) return model.open(request);
      const size = [own(request.size[0]), own(request.size[1])] as const;
      return new ScaledReader(await model.open({ ...request, size }), request, size);
    },
    ...(record && {
      record: (graph: Graph, pixels: Tensor, request: TokenRequest): TokenTensors => {
        if (!request.exactSize) {
          throw new UsageError(`${name} takes pictures at another size than the others here: give all one with --size`);
        }
        return record(graph, pixels, request);
      },
    }),
    dispose: () => model.dispose(),
  };
}

class ScaledReader implements TokenReader {
  readonly grid: readonly [number, number];
  readonly levels: number;
  readonly dim: number;

  constructor(
    private readonly reader: TokenReader,
    private readonly request: TokenRequest,
    private readonly size: readonly [number, number],
  ) {
    this.grid = reader.grid;
    this.levels = reader.levels;
    this.dim = reader.dim;
  }

  read(pixels: Uint8Array, n: number): Promise<Tokens> {
    const [height, width] = this.request.size;
    const [ownHeight, ownWidth] = this.size;
    if (height === ownHeight && width === ownWidth) return this.reader.read(pixels, n);
    const scaled = new Uint8Array(n * ownHeight * ownWidth * 3);
    for (let i = 0; i < n; i++) {
      const data = pixels.subarray(i * height * width * 3, (i + 1) * height * width * 3);
      const out = scaled.subarray(i * ownHeight * ownWidth * 3, (i + 1) * ownHeight * ownWidth * 3);
      resizeInto({ width, height, data }, { x: 0, y: 0, width, height }, ownWidth, ownHeight, out);
    }
    return this.reader.read(scaled, n);
  }

  dispose(): void {
    this.reader.dispose();
  }
}
