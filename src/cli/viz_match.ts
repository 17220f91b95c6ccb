/** `webdino viz match`: which places of two pictures show the same, by their patch features. */

import { extname } from 'node:path';
import { openPictureFiles } from '../data/picture_files.js';
import { DataError, UsageError } from '../errors.js';
import { type Drawing, draw, INK, SOFT, svgText } from '../eval/viz/drawing.js';
import type { Frame } from '../eval/viz/frames.js';
import { MATCH_RATIO, mutualMatches, type PatchMatch } from '../eval/viz/matching.js';
import { patchGrids } from '../eval/viz/patch_grids.js';
import { writeFileAtomic } from '../io/atomic.js';
import { type ModelArguments, PictureProgress, positiveInteger, required } from './model.js';
import {
  describeSession,
  findDenseModel,
  framesOf,
  numberBetween,
  sessionFacts,
  tokensAtATime,
  withModel,
} from './viz_session.js';

export interface VizMatchArguments extends ModelArguments {
  /** The two pictures. */
  readonly a: string;
  readonly b: string;
  /** The .png; a .json of the same name goes beside it. */
  readonly out: string;
  /** Nearest over nearest elsewhere, 0 to 1. */
  readonly ratio?: string | number;
  /** Least cosine of a match. */
  readonly leastSimilarity?: string | number;
  /** `--no-refine`: matches at the centres of patches. */
  readonly refine?: boolean;
  /** Lines drawn at most, the surest ones; the JSON has all. */
  readonly lines?: string | number;
  readonly json?: boolean;
}

const MOST_LINES = 100;
const SHOWN_HEIGHT = 520;
const GAP = 12;
const HEADER = 44;

/** A match in pixels of the two files. */
interface PixelMatch extends Pick<PatchMatch, 'similarity' | 'ratio'> {
  readonly a: readonly [number, number];
  readonly b: readonly [number, number];
}

/**
 * Draws both pictures side by side with a line a match, and writes all matches as JSON, in pixels of the files.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function vizMatch(options: VizMatchArguments): Promise<void> {
  const paths = [required('--a', options.a), required('--b', options.b)];
  const out = required('--out', options.out);
  if (extname(out).toLowerCase() !== '.png') throw new UsageError(`--out ${out}: give a name in .png`);
  const ratio = numberBetween('--ratio', options.ratio, [0, 1]) ?? MATCH_RATIO;
  const leastSimilarity = numberBetween('--least-similarity', options.leastSimilarity, [-1, 1]);
  const lines = positiveInteger('--lines', options.lines) ?? MOST_LINES;
  const { refine = true } = options;
  const settings = await findDenseModel(options);
  const source = await openPictureFiles(paths);
  await withModel(settings, async (session) => {
    const { gpu, model } = session;
    const frames = await framesOf(session, source, { model: options.model }, 2);
    if (frames.length < 2) throw new DataError(`one of ${paths.join(' and ')} cannot be read: a match needs both`);
    const progress = new PictureProgress(2);
    progress.note(describeSession(session));
    const grids = await patchGrids(gpu, model, frames, { dtype: settings.dtype, tokens: tokensAtATime(session) });
    const found = await mutualMatches(gpu, grids[0], grids[1], model.vit.embedDim, { ratio, leastSimilarity, refine });
    progress.finish();
    const [a, b] = frames;
    const matches = found.map(
      (match): PixelMatch => ({
        a: inFile(match.a, a, model.vit.patchSize),
        b: inFile(match.b, b, model.vit.patchSize),
        similarity: match.similarity,
        ratio: match.ratio,
      }),
    );
    const drawing = await drawMatches([a, b], found.slice(0, lines), model.vit.patchSize, {
      title: `${a.name} and ${b.name}`,
      subtitle: `${found.length} matches${found.length > lines ? `, the ${lines} surest ones drawn` : ''}`,
    });
    const results = {
      ...sessionFacts(session),
      a: { path: paths[0], ...frames[0].original, grid: [grids[0].rows, grids[0].columns] },
      b: { path: paths[1], ...frames[1].original, grid: [grids[1].rows, grids[1].columns] },
      ratio,
      refined: refine,
      picture: out,
      matches,
    };
    const file = out.replace(/\.png$/i, '.json');
    await writeFileAtomic(out, drawing.png);
    await writeFileAtomic(file, `${JSON.stringify(results, null, 2)}\n`);
    const drawn = Math.min(lines, matches.length);
    console.log(
      options.json
        ? JSON.stringify(results, null, 2)
        : `${out}: ${matches.length} matches, ${drawn} of them drawn; all of them in ${file}`,
    );
    if (matches.length === 0) {
      progress.note('no match is left: a larger --ratio (1 keeps all) or a larger --size finds more');
    }
  });
}

/** A place in patches of a frame as [x, y] in pixels of its file. */
function inFile([x, y]: readonly [number, number], { image, box }: Frame, patchSize: number): [number, number] {
  return [box.x + (x * patchSize * box.width) / image.width, box.y + (y * patchSize * box.height) / image.height].map(
    (pixel) => Number(pixel.toFixed(2)),
  ) as [number, number];
}

/** Both pictures at one height, a line a match; its colour tells where in the first picture it starts. */
function drawMatches(
  frames: readonly [Frame, Frame],
  matches: readonly PatchMatch[],
  patchSize: number,
  { title, subtitle }: { readonly title: string; readonly subtitle: string },
): Promise<Drawing> {
  const scales = frames.map(({ image }) => SHOWN_HEIGHT / image.height);
  const widths = frames.map(({ image }, i) => Math.round(image.width * scales[i]));
  const starts = [0, widths[0] + GAP];
  const placed = frames.map(({ display: image }, i) => ({
    image,
    x: starts[i],
    y: HEADER,
    width: widths[i],
    height: SHOWN_HEIGHT,
  }));
  const at = (i: number, [x, y]: readonly [number, number]): [string, string] => [
    (starts[i] + x * patchSize * scales[i]).toFixed(1),
    (HEADER + y * patchSize * scales[i]).toFixed(1),
  ];
  const svg = matches.map(({ a, b }) => {
    const [[x1, y1], [x2, y2]] = [at(0, a), at(1, b)];
    const [right, down] = [(Number(x1) - starts[0]) / widths[0], (Number(y1) - HEADER) / SHOWN_HEIGHT];
    const colour = `hsl(${(330 * right).toFixed(0)}, 90%, ${(75 - 25 * down).toFixed(0)}%)`;
    const dot = (x: string, y: string): string =>
      `<circle cx="${x}" cy="${y}" r="4" fill="${colour}" stroke="#000" stroke-width="1"/>`;
    return (
      `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colour}" stroke-width="1.5" stroke-opacity="0.85"/>` +
      dot(x1, y1) +
      dot(x2, y2)
    );
  });
  const width = starts[1] + widths[1];
  const text = [
    svgText(title, 4, 18, { size: 15, fill: INK, weight: 'bold', widest: width }),
    svgText(subtitle, 4, 36, { size: 12, fill: SOFT, widest: width }),
  ];
  return draw(width, HEADER + SHOWN_HEIGHT, placed, [...svg, ...text].join(''));
}
