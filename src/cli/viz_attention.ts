/** `webdino viz attention`: what the CLS token attends to, head by head. */

import { join } from 'node:path';
import { openPictures } from '../data/picture_files.js';
import type { RgbImage } from '../data/picture.js';
import { UsageError } from '../errors.js';
import { type AttentionMap, attentionMaps, checkBlock, meanMap } from '../eval/viz/attention_maps.js';
import { drawSheet, heatOverlay, type Tile } from '../eval/viz/drawing.js';
import { enlargeGrid } from '../eval/viz/grid_taps.js';
import { writeFileAtomic } from '../io/atomic.js';
import { encodeNpy } from '../io/npy.js';
import { PictureProgress, required } from './model.js';
import {
  type DenseArguments,
  describeSession,
  fileNames,
  findDenseModel,
  finish,
  framesOf,
  openFolder,
  sessionFacts,
  tokensAtATime,
  withModel,
} from './viz_session.js';

export interface VizAttentionArguments extends DenseArguments {
  /** Folder, archive or one picture. */
  readonly data: string;
  /** Folder for the pictures. */
  readonly out: string;
  /** From 0; default the last. */
  readonly block?: string | number;
}

const MOST_PICTURES = 12;

/** Overlays stop getting warmer here: one patch that takes most of the attention should not hide the rest. */
const WARMEST_PERCENTILE = 99;

/**
 * Writes NAME_attention.png (picture, mean of the heads, each head) and NAME_attention.npy (f32 [heads, rows, columns]) for
 * each picture, sheet.png with the means, and results.json into `out`. Registers are left out of the pictures.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function vizAttention(options: VizAttentionArguments): Promise<void> {
  const out = required('--out', options.out);
  const asked = options.block === undefined ? undefined : Number(options.block);
  if (asked !== undefined && (!Number.isInteger(asked) || options.block === '')) {
    throw new UsageError(`--block takes the number of a block from 0, not ${JSON.stringify(options.block)}`);
  }
  const settings = await findDenseModel(options);
  const source = await openPictures(required('--data', options.data));
  try {
    await openFolder(out);
    await withModel(settings, async (session) => {
      const { gpu, model } = session;
      const block = asked ?? model.vit.depth - 1;
      checkBlock(model.vit, block);
      const frames = await framesOf(session, source, options, MOST_PICTURES);
      const progress = new PictureProgress(frames.length);
      progress.note(`${describeSession(session)}, block ${block}`);
      const { dtype } = settings;
      const { onProgress } = progress.callbacks;
      const maps = await attentionMaps(gpu, model, frames, {
        dtype,
        tokens: tokensAtATime(session),
        block,
        onProgress,
      });
      progress.finish();
      const names = fileNames(frames.map(({ name }) => name));
      const means: Tile[][] = [];
      for (const [i, { display: shown, name }] of frames.entries()) {
        const map = maps[i];
        const mean = overlay(shown, map, meanMap(map));
        const heads = Array.from({ length: map.heads }, (_, head) => ({
          image: overlay(shown, map, headOf(map, head)),
          caption: `head ${head}`,
        }));
        means.push([{ image: shown }, { image: mean }]);
        const { png } = await drawSheet(
          [
            { tiles: [{ image: shown, caption: 'picture' }] },
            { tiles: [{ image: mean, caption: 'mean of the heads' }] },
          ].concat(heads.map((tile) => ({ tiles: [tile] }))),
          { title: name, subtitle: `attention of the CLS token in block ${block}`, tileHeight: 224, lineWidth: 1200 },
        );
        await writeFileAtomic(join(out, `${names[i]}_attention.png`), png);
        await writeFileAtomic(
          join(out, `${names[i]}_attention.npy`),
          encodeNpy({ shape: [map.heads, map.rows, map.columns], data: map.patches }),
        );
      }
      const sheet = await drawSheet(
        means.map((tiles, i) => ({ tiles, caption: frames[i].name })),
        { title: `Attention of the CLS token in block ${block}`, subtitle: `mean of ${model.vit.numHeads} heads` },
      );
      await writeFileAtomic(join(out, 'sheet.png'), sheet.png);
      const results = {
        ...sessionFacts(session),
        data: source.path,
        block,
        sheet: join(out, 'sheet.png'),
        pictures: frames.map(({ name, image }, i) => ({
          name,
          file: join(out, `${names[i]}_attention.png`),
          weights: join(out, `${names[i]}_attention.npy`),
          size: [image.height, image.width],
          grid: [maps[i].rows, maps[i].columns],
          heads: Array.from({ length: maps[i].heads }, (_, head) => headFacts(maps[i], head)),
        })),
      };
      const line = `${join(out, 'sheet.png')}: means of ${model.vit.numHeads} heads; one file for each of ${frames.length} pictures beside it`;
      await finish(out, results, { json: options.json, line });
    });
  } finally {
    await source.close();
  }
}

function headOf({ rows, columns, patches }: AttentionMap, head: number): Float32Array {
  return patches.subarray(head * rows * columns, (head + 1) * rows * columns);
}

/** A map over the picture, from its least value to its warmest. */
function overlay(image: RgbImage, { rows, columns }: AttentionMap, values: Float32Array): RgbImage {
  const sorted = values.slice().sort();
  const low = sorted[0];
  const high = sorted[Math.ceil((WARMEST_PERCENTILE / 100) * (sorted.length - 1))];
  const scaled = values.map((value) => (high > low ? (value - low) / (high - low) : 0));
  return heatOverlay(image, enlargeGrid(scaled, [rows, columns], [image.height, image.width]));
}

/** How spread out a head's attention is, and what goes to tokens that are no patches. */
function headFacts(map: AttentionMap, head: number) {
  const patches = headOf(map, head);
  const registers = map.registers.subarray(
    (head * map.registers.length) / map.heads,
    ((head + 1) * map.registers.length) / map.heads,
  );
  const total = patches.reduce((sum, value) => sum + value, 0);
  let entropy = 0;
  for (const value of patches) if (value > 0) entropy -= (value / total) * Math.log(value / total);
  return {
    head,
    patches: total,
    cls: map.cls[head],
    registers: registers.reduce((sum, value) => sum + value, 0),
    /** 1 where all patches get the same. */
    relativeEntropy: patches.length > 1 ? entropy / Math.log(patches.length) : 1,
  };
}
