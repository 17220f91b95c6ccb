/** Patch features of pictures of any shape, each a grid of tokens after the final norm. */

import { finalNorm, patchRows } from '../../dinov2/vit.js';
import type { Gpu } from '../../gpu/device.js';
import type { LoadedModel } from '../model_file.js';
import type { Frame } from './frames.js';
import { type DenseOptions, runPacked } from './packed_frames.js';

/** The tokens of one picture. */
export interface PatchGrid {
  readonly rows: number;
  readonly columns: number;
  /** [rows columns, D], row by row of the picture. */
  readonly features: Float32Array;
}

/** @returns a grid a frame, in their order */
export async function patchGrids(
  gpu: Gpu,
  model: LoadedModel,
  frames: readonly Frame[],
  options: DenseOptions,
): Promise<PatchGrid[]> {
  const { vit } = model;
  const features = await runPacked(gpu, model, frames, options, {
    record: (graph, weights, tokens, sequences) =>
      sequences.map((_, group) => {
        const rows = Uint32Array.from(patchRows(vit, sequences, group));
        const index = graph.program.constant(`patch rows ${group}`, [rows.length], rows);
        return finalNorm(graph, weights, tokens, { index });
      }),
  });
  return frames.map(({ image }, i) => ({
    rows: image.height / vit.patchSize,
    columns: image.width / vit.patchSize,
    features: features[i],
  }));
}
