/** `webdino viz umap`: pictures on a plane by their features, as a page, a PNG and a table of coordinates. */

import { join } from 'node:path';
import { readRgb } from '../data/decode.js';
import { openPictures } from '../data/picture_files.js';
import { CounterRandom } from '../data/random.js';
import { UsageError } from '../errors.js';
import { extractFeatures, FeatureExtractor } from '../eval/features.js';
import { classColour, type Drawing, draw, INK, type Placed, svgText } from '../eval/viz/drawing.js';
import { featureMap, MAP_NEIGHBOURS } from '../eval/viz/feature_map.js';
import { spread } from '../eval/viz/frames.js';
import { shrunk } from '../eval/viz/thumbnails.js';
import { writeFileAtomic } from '../io/atomic.js';
import { Progress } from '../io/progress.js';
import { findModel, type ModelArguments, PictureProgress, positiveInteger, required } from './model.js';
import { type MapPoint, mapPage } from './viz_pages.js';
import { describeSession, finish, numberBetween, openFolder, sessionFacts, withModel } from './viz_session.js';

export interface VizUmapArguments extends ModelArguments {
  readonly data: string;
  readonly out: string;
  readonly limit?: string | number;
  readonly neighbors?: string | number;
  readonly minDistance?: string | number;
  readonly epochs?: string | number;
  readonly seed?: string | number;
  readonly json?: boolean;
}

const MOST_PICTURES = 2000;

/** Pixels of a picture on the page, and on the PNG. */
const THUMBNAIL = 64;
const SHOWN_THUMBNAIL = 40;

/** Pixels of the PNG. */
const MAP = { width: 1400, height: 1000, margin: 48, header: 64 };

/** Classes named on the PNG at most. */
const MOST_LISTED = 24;

/**
 * Writes index.html, map.png, map.csv (name, label, class_name, x, y) and results.json into `out`.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function vizUmap(options: VizUmapArguments): Promise<void> {
  const out = required('--out', options.out);
  const limit = positiveInteger('--limit', options.limit) ?? MOST_PICTURES;
  const neighbours = positiveInteger('--neighbors', options.neighbors) ?? MAP_NEIGHBOURS;
  const minDistance = numberBetween('--min-distance', options.minDistance, [0, 1]);
  const epochs = positiveInteger('--epochs', options.epochs);
  const seed = Number(options.seed ?? 0);
  if (!Number.isSafeInteger(seed) || seed < 0 || options.seed === '') {
    throw new UsageError(`--seed takes a whole number from 0, not ${JSON.stringify(options.seed)}`);
  }
  const settings = await findModel(options);
  const source = await openPictures(required('--data', options.data));
  try {
    await openFolder(out);
    await withModel(settings, async (session) => {
      const { gpu, model } = session;
      const asked = spread(source.length, limit);
      const progress = new PictureProgress(asked.length);
      progress.note(describeSession(session));
      if (asked.length < source.length) {
        progress.note(`${asked.length} of ${source.length} pictures, evenly spread; --limit takes more`);
      }
      const extractor = new FeatureExtractor(gpu, {
        vit: model.vit,
        weights: model.weights,
        batch: model.batch,
        size: settings.crop,
        dtype: settings.dtype,
      });
      await extractor.compile();
      const { features, dim, indices, labels } = await extractFeatures(extractor, source, {
        resize: settings.resize,
        indices: asked,
        ...progress.callbacks,
      });
      extractor.dispose();
      progress.finish();

      let bar: Progress | undefined;
      const startMs = performance.now();
      const places = await featureMap(gpu, features, dim, {
        neighbours,
        minDistance,
        epochs,
        seed,
        onEpoch: (epoch, totalSteps) => {
          bar ??= new Progress({ totalSteps });
          bar.update({ step: epoch });
        },
      });
      const mapMs = performance.now() - startMs;
      bar?.done();

      const points: MapPoint[] = [];
      for (const [i, index] of indices.entries()) {
        const thumbnail = shrunk(await readRgb(source, index), THUMBNAIL);
        points.push({ x: places[2 * i], y: places[2 * i + 1], name: source.name(index), label: labels[i], thumbnail });
      }
      const classNames = new Map<number, string>();
      for (const label of labels) {
        if (label !== undefined) classNames.set(label, source.classNames?.[label] ?? String(label));
      }
      const title = 'Map of features';
      const subtitle =
        `${points.length} pictures by the cosine of their CLS tokens; ` + `${neighbours} neighbours, seed ${seed}`;
      await writeFileAtomic(join(out, 'map.csv'), csvOf(points, classNames));
      await writeFileAtomic(join(out, 'map.png'), (await drawMap(points, classNames, title, subtitle)).png);
      await writeFileAtomic(join(out, 'index.html'), await mapPage(title, subtitle, points, classNames));
      const results = {
        ...sessionFacts(session),
        data: source.path,
        pictures: points.length,
        neighbours,
        seed,
        mapSeconds: Number((mapMs / 1000).toFixed(2)),
        page: join(out, 'index.html'),
        picture: join(out, 'map.png'),
        coordinates: join(out, 'map.csv'),
      };
      const line = `${join(out, 'index.html')}, map.png and map.csv: ${points.length} pictures`;
      await finish(out, results, { json: options.json, line });
    });
  } finally {
    await source.close();
  }
}

function csvOf(points: readonly MapPoint[], classNames: ReadonlyMap<number, string>): string {
  const quoted = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = points.map(({ x, y, name, label }) =>
    [
      quoted(name),
      label ?? '',
      quoted(label === undefined ? '' : classNames.get(label)!),
      x.toFixed(6),
      y.toFixed(6),
    ].join(','),
  );
  return `${['name,label,class_name,x,y', ...rows].join('\n')}\n`;
}

/** A dot a picture, and as many thumbnails as find room. */
function drawMap(
  points: readonly MapPoint[],
  classNames: ReadonlyMap<number, string>,
  title: string,
  subtitle: string,
): Promise<Drawing> {
  const { width, height, margin, header } = MAP;
  const bounds = (values: readonly number[]): [number, number] => [
    values.reduce((a, b) => Math.min(a, b)),
    values.reduce((a, b) => Math.max(a, b)),
  ];
  const [left, right] = bounds(points.map(({ x }) => x));
  const [top, bottom] = bounds(points.map(({ y }) => y));
  const labels = [...classNames.keys()].sort((a, b) => a - b).slice(0, MOST_LISTED);
  const legend = labels.length > 0 ? 160 : 0;
  const room = [width - 2 * margin - legend, height - 2 * margin - header];
  const unit = Math.min(room[0] / Math.max(right - left, 1e-9), room[1] / Math.max(bottom - top, 1e-9));
  const at = ({ x, y }: MapPoint): [number, number] => [
    margin + room[0] / 2 + unit * (x - (left + right) / 2),
    header + margin + room[1] / 2 + unit * (y - (top + bottom) / 2),
  ];
  const colourOf = ({ label }: MapPoint): string => classColour(label ?? 0);
  const placed: Placed[] = [];
  const dots: string[] = [];
  const frames: string[] = [];
  const apart = SHOWN_THUMBNAIL + 6;
  const taken: [number, number][] = [];
  // In a random order: sources are often sorted by class.
  for (const i of new CounterRandom(0).permutation(points.length)) {
    const point = points[i];
    const [x, y] = at(point);
    const free = taken.every(([a, b]) => Math.abs(a - x) >= apart || Math.abs(b - y) >= apart);
    if (!free) {
      dots.push(
        `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3" fill="${colourOf(point)}" fill-opacity="0.8"/>`,
      );
      continue;
    }
    taken.push([x, y]);
    const [px, py] = [Math.round(x - SHOWN_THUMBNAIL / 2), Math.round(y - SHOWN_THUMBNAIL / 2)];
    placed.push({ image: point.thumbnail, x: px, y: py, width: SHOWN_THUMBNAIL, height: SHOWN_THUMBNAIL });
    frames.push(
      `<rect x="${px - 1}" y="${py - 1}" width="${SHOWN_THUMBNAIL + 2}" height="${SHOWN_THUMBNAIL + 2}" fill="none" stroke="${colourOf(point)}" stroke-width="3"/>`,
    );
  }
  const names = labels.flatMap((label, i) => {
    const y = header + margin + 20 * i;
    return [
      `<circle cx="${width - margin - legend + 24}" cy="${y}" r="5" fill="${classColour(label)}"/>`,
      svgText(classNames.get(label)!, width - margin - legend + 36, y + 4, { fill: INK, widest: legend - 20 }),
    ];
  });
  const text = [
    svgText(title, 24, 36, { size: 20, fill: INK, weight: 'bold' }),
    svgText(subtitle, 24, 58, { size: 13, widest: width - 48 }),
  ];
  return draw(width, height, placed, [...frames, ...names, ...text].join(''), dots.join(''));
}
