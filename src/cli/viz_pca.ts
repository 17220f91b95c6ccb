/** `webdino viz pca`: patch features as colours, the figure of the DINOv2 paper. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openPictures } from '../data/picture_files.js';
import { DataError, UsageError } from '../errors.js';
import { draw, drawSheet } from '../eval/viz/drawing.js';
import { patchGrids } from '../eval/viz/patch_grids.js';
import { CLIP_PERCENT, colourGrid, decodePcaBasis, encodePcaBasis, fitPcaBasis } from '../eval/viz/pca_colours.js';
import type { FittedBasis, PcaBasis } from '../eval/viz/pca_colours.js';
import { writeFileAtomic } from '../io/atomic.js';
import { PictureProgress, required } from './model.js';
import {
  type DenseArguments,
  describeSession,
  fileNames,
  findDenseModel,
  finish,
  framesOf,
  numberBetween,
  openFolder,
  sessionFacts,
  tokensAtATime,
  withModel,
} from './viz_session.js';

export interface VizPcaArguments extends DenseArguments {
  /** Folder, archive or one picture. */
  readonly data: string;
  /** Folder for the pictures. */
  readonly out: string;
  /** `--no-foreground`: one PCA over all patches. */
  readonly foreground?: boolean;
  /** 0 to 1 of the first component's range. */
  readonly backgroundThreshold?: string | number;
  /** The other side of the first component is foreground. */
  readonly flip?: boolean;
  /** Percent at each end of a component that may saturate. */
  readonly clip?: string | number;
  /** `--no-smooth`: a flat rectangle a patch. */
  readonly smooth?: boolean;
  /** Colours of an earlier call. */
  readonly basis?: string;
  /** Where the colours are kept for later calls. */
  readonly saveBasis?: string;
}

const MOST_PICTURES = 24;

/**
 * Writes NAME_pca.png (the picture beside its colours) for each picture, sheet.png and results.json into `out`.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function vizPca(options: VizPcaArguments): Promise<void> {
  const out = required('--out', options.out);
  const threshold = numberBetween('--background-threshold', options.backgroundThreshold, [0, 1]);
  const clipPercent = numberBetween('--clip', options.clip, [0, 49]) ?? CLIP_PERCENT;
  const { foreground = true, smooth = true, flip = false } = options;
  if (options.basis && (threshold !== undefined || flip || !foreground || options.clip !== undefined)) {
    throw new UsageError(
      '--basis brings its own foreground and range: leave out the options that would fit another one',
    );
  }
  const given = options.basis === undefined ? undefined : await readBasis(options.basis);
  const settings = await findDenseModel(options);
  const source = await openPictures(required('--data', options.data));
  try {
    await openFolder(out);
    await withModel(settings, async (session) => {
      const { gpu, model } = session;
      const frames = await framesOf(session, source, options, MOST_PICTURES);
      const progress = new PictureProgress(frames.length);
      progress.note(describeSession(session));
      const { dtype } = settings;
      const { onProgress } = progress.callbacks;
      const grids = await patchGrids(gpu, model, frames, { dtype, tokens: tokensAtATime(session), onProgress });
      progress.finish();
      const fit = { foreground, backgroundThreshold: threshold, flip, clipPercent };
      const fitted = given ? undefined : fitPcaBasis(grids, model.vit.embedDim, fit);
      const basis = given ?? fitted!;
      if (options.saveBasis !== undefined) {
        await writeFileAtomic(options.saveBasis, encodePcaBasis(basis, { model: settings.weightsPath }));
      }
      const names = fileNames(frames.map(({ name }) => name));
      const pairs = frames.map(({ image: { height: rows, width: columns }, display: image, name }, i) => {
        const { height, width } = image;
        const { rgb, foregroundShare } = colourGrid(basis, grids[i], [height, width], smooth);
        return { image, name, size: [rows, columns], coloured: { width, height, data: rgb }, foregroundShare };
      });
      for (const [i, { image, coloured }] of pairs.entries()) {
        const { width, height } = coloured;
        const { png } = await draw(2 * width + 4, height, [
          { image, x: 0, y: 0, width, height },
          { image: coloured, x: width + 4, y: 0, width, height },
        ]);
        await writeFileAtomic(join(out, `${names[i]}_pca.png`), png);
      }
      const sheet = await drawSheet(
        pairs.map(({ image, coloured, name }) => ({ tiles: [{ image }, { image: coloured }], caption: name })),
        {
          title: 'Principal components of patch features',
          subtitle: fitted ? describeFit(fitted) : `colours of ${options.basis}`,
        },
      );
      await writeFileAtomic(join(out, 'sheet.png'), sheet.png);
      const results = {
        ...sessionFacts(session),
        data: source.path,
        ...(fitted && {
          patches: fitted.patches,
          foregroundPatches: fitted.foregroundPatches,
          explained: fitted.explained,
        }),
        ...(options.basis !== undefined && { basis: options.basis }),
        ...(options.saveBasis !== undefined && { savedBasis: options.saveBasis }),
        threshold: basis.foreground?.threshold,
        sheet: join(out, 'sheet.png'),
        pictures: pairs.map(({ name, foregroundShare, size }, i) => ({
          name,
          file: join(out, `${names[i]}_pca.png`),
          size,
          grid: [grids[i].rows, grids[i].columns],
          foregroundShare,
        })),
      };
      const count = `${pairs.length} picture${pairs.length === 1 ? '' : 's'}`;
      await finish(out, results, {
        json: options.json,
        line: `${join(out, 'sheet.png')}: ${count}, one file each beside it`,
      });
    });
  } finally {
    await source.close();
  }
}

async function readBasis(path: string): Promise<PcaBasis> {
  const bytes = await readFile(path).catch((cause) => {
    throw new DataError(`--basis ${path} cannot be read: give a file that --save-basis wrote`, { cause });
  });
  try {
    return decodePcaBasis(bytes);
  } catch (error) {
    if (error instanceof DataError) throw new DataError(`--basis ${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

function describeFit({ explained, foreground, foregroundPatches, patches }: FittedBasis): string {
  const shares = explained.map((share) => `${(100 * share).toFixed(0)} %`).join(', ');
  const of = foreground ? `${foregroundPatches} foreground patches of ${patches}` : `${patches} patches`;
  return `red, green, blue: ${shares} of the variance of ${of}`;
}
