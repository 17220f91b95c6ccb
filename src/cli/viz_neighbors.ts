/** `webdino viz neighbors`: the nearest pictures of some pictures, as a sheet, a page and JSON. */

import { basename, join } from 'node:path';
import { readRgb } from '../data/decode.js';
import type { RgbImage } from '../data/picture.js';
import { openPictures } from '../data/picture_files.js';
import type { ImageSource } from '../data/source.js';
import { extractFeatures, FeatureExtractor, type SourceFeatures } from '../eval/features.js';
import { drawSheet, RIGHT, type TileGroup, WRONG } from '../eval/viz/drawing.js';
import { spread } from '../eval/viz/frames.js';
import { galleryNeighbours } from '../eval/viz/neighbours.js';
import { shrunk } from '../eval/viz/thumbnails.js';
import { writeFileAtomic } from '../io/atomic.js';
import { findModel, type ModelArguments, PictureProgress, positiveInteger, required } from './model.js';
import { neighboursPage, type ShownQuery } from './viz_pages.js';
import { describeSession, finish, openFolder, sessionFacts, withModel } from './viz_session.js';

export interface VizNeighborsArguments extends ModelArguments {
  /** Where neighbours come from. */
  readonly data: string;
  readonly out: string;
  /** Whose neighbours are wanted; without it, some of `data`, each without itself. */
  readonly queries?: string;
  readonly k?: string | number;
  readonly limit?: string | number;
  readonly json?: boolean;
}

const NEIGHBOURS = 8;
const MOST_QUERIES = 24;

/** Pixels of a picture on the sheet and the page. */
const THUMBNAIL = 128;

/**
 * Writes sheet.png, index.html and results.json into `out`. Neighbours of the query's class are framed green, others red,
 * where both have a class.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function vizNeighbors(options: VizNeighborsArguments): Promise<void> {
  const out = required('--out', options.out);
  const k = positiveInteger('--k', options.k) ?? NEIGHBOURS;
  const limit = positiveInteger('--limit', options.limit) ?? MOST_QUERIES;
  const settings = await findModel(options);
  const gallery = await openPictures(required('--data', options.data));
  const other = options.queries === undefined ? undefined : await openPictures(options.queries);
  try {
    await openFolder(out);
    await withModel(settings, async (session) => {
      const { gpu, model } = session;
      const asked = other && spread(other.length, limit);
      const progress = new PictureProgress(gallery.length + (asked?.length ?? 0));
      progress.note(describeSession(session));
      const extractor = new FeatureExtractor(gpu, {
        vit: model.vit,
        weights: model.weights,
        batch: model.batch,
        size: settings.crop,
        dtype: settings.dtype,
      });
      const featuresOf = (source: ImageSource, indices?: readonly number[]): Promise<SourceFeatures> =>
        extractFeatures(extractor, source, { resize: settings.resize, indices, ...progress.callbacks });
      let found: SourceFeatures;
      let queries: SourceFeatures;
      /** The gallery's rows of the queries, where they are among it. */
      let itself: number[] | undefined;
      try {
        await extractor.compile();
        found = await featuresOf(gallery);
        progress.next();
        if (other) {
          queries = await featuresOf(other, asked);
        } else {
          itself = spread(found.indices.length, limit);
          queries = rowsOf(found, itself);
        }
      } finally {
        extractor.dispose();
      }
      const { dim } = found;
      const request = { queries: queries.features, gallery: found.features, dim, k, itself };
      const nearest = await galleryNeighbours(gpu, request);
      progress.finish();

      const classes = labelNames(gallery, other ?? gallery);
      const shown: ShownQuery[] = [];
      let [right, judged] = [0, 0];
      for (const [q, index] of queries.indices.entries()) {
        const source = other ?? gallery;
        const ownClass = queries.labels[q];
        const neighbours = [];
        for (const { row, similarity } of nearest[q]) {
          const label = found.labels[row];
          const agrees = ownClass === undefined || label === undefined ? undefined : classes.same(ownClass, label);
          if (agrees !== undefined) judged++;
          if (agrees) right++;
          const picture = await thumbnail(gallery, found.indices[row]);
          neighbours.push({
            name: gallery.name(found.indices[row]),
            className: classes.gallery(label),
            similarity,
            agrees,
            picture,
          });
        }
        const picture = await thumbnail(source, index);
        shown.push({ name: source.name(index), className: classes.queries(ownClass), picture, neighbours });
      }
      const share = judged > 0 ? right / judged : undefined;
      const subtitle =
        `the ${k} most similar of ${found.indices.length} pictures, by the cosine of their CLS tokens` +
        (share === undefined ? '' : `; ${(100 * share).toFixed(1)} % are of the same class`);
      const title = 'Nearest neighbours';
      const sheet = await drawSheet(shown.map(groupOf), { title, subtitle, tileHeight: THUMBNAIL, lineWidth: 0 });
      await writeFileAtomic(join(out, 'sheet.png'), sheet.png);
      await writeFileAtomic(join(out, 'index.html'), await neighboursPage(title, subtitle, shown));
      const results = {
        ...sessionFacts(session),
        data: gallery.path,
        ...(other && { queries: other.path }),
        pictures: found.indices.length,
        k,
        ...(share !== undefined && { sameClass: share }),
        sheet: join(out, 'sheet.png'),
        page: join(out, 'index.html'),
        neighbours: shown.map(({ name, className, neighbours }) => ({
          query: name,
          class: className,
          neighbours: neighbours.map(({ picture: _, className: label, ...rest }) => ({ ...rest, class: label })),
        })),
      };
      const page = join(out, 'index.html');
      await finish(out, results, {
        json: options.json,
        line: `${page} and sheet.png: ${shown.length} pictures, ${subtitle}`,
      });
    });
  } finally {
    await Promise.all([gallery.close(), other?.close()]);
  }
}

function rowsOf({ features, dim, indices, labels }: SourceFeatures, rows: readonly number[]): SourceFeatures {
  const taken = new Float32Array(rows.length * dim);
  rows.forEach((row, i) => {
    taken.set(features.subarray(row * dim, (row + 1) * dim), i * dim);
  });
  return { features: taken, dim, indices: rows.map((row) => indices[row]), labels: rows.map((row) => labels[row]) };
}

/** Classes by their names where both sources have names, which may be numbered differently; else by their numbers. */
function labelNames(gallery: ImageSource, queries: ImageSource) {
  const named = (source: ImageSource) => (label: number | undefined) =>
    label === undefined ? undefined : (source.classNames?.[label] ?? String(label));
  const [ofGallery, ofQueries] = [named(gallery), named(queries)];
  const byName = gallery.classNames !== undefined && queries.classNames !== undefined;
  return {
    gallery: ofGallery,
    queries: ofQueries,
    same: (query: number, found: number): boolean => (byName ? ofQueries(query) === ofGallery(found) : query === found),
  };
}

async function thumbnail(source: ImageSource, index: number): Promise<RgbImage> {
  return shrunk(await readRgb(source, index), THUMBNAIL);
}

function groupOf({ name, className, picture, neighbours }: ShownQuery): TileGroup {
  return {
    tiles: [
      { image: picture, caption: className ?? basename(name), frame: '#ffffff' },
      ...neighbours.map(({ picture: image, className: found, similarity, agrees }) => ({
        image,
        caption: `${similarity.toFixed(2)} ${found ?? ''}`,
        frame: agrees === undefined ? undefined : agrees ? RIGHT : WRONG,
      })),
    ],
  };
}
