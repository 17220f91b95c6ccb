/**
 * Copy detection: which reference picture was a query made from? All pairs of queries and references are ranked together by
 * cosine, so a score must mean the same for every query: micro average precision, and the recall that a precision of 90 %
 * leaves (Douze et al. 2021, "The 2021 Image Similarity Dataset and Challenge").
 *
 * With a background set every score is lowered by the mean of the query's best similarities to pictures that are certainly no
 * originals (score normalisation of the same paper), so that queries that resemble everything do not crowd the top.
 */

import { type ImageSource, openSource } from '../data/source.js';
import { DataError } from '../errors.js';
import type { Pooling } from './features.js';
import type { FrozenModel } from './frozen_model.js';
import { datasetName } from './labelled_pair.js';
import { nearestRows } from './nearest_rows.js';
import { pictureFeatures } from './picture_features.js';
import { type GroupedPicture, readPictureGroups } from './picture_groups.js';
import { microAveragePrecision, type PairList, rankedPairs } from './ranking_metrics.js';
import type { EvaluationReport, Figure } from './result.js';
import { type Finding, findingGallery, meanOver, type QueryStatistic, searchResults } from './search_report.js';
import type { EvaluationContext } from './task.js';

export interface CopyRequest {
  /** Folder or archive of queries, references and distractors. */
  readonly data: string;
  /** The csv with columns key, group, role and, if there, kind and transform. Default: that of the archive's name beside it. */
  readonly groups?: string;
  /** Folder or archive of background pictures; scores are normalised by them. */
  readonly normalise?: string;
  /** What of a picture is compared. Default `cls`. */
  readonly global?: Pooling;
}

/** Pairs that are all ranked; of more, each query's nearest. */
const MOST_PAIRS = 2 ** 24;
const MOST_CANDIDATES = 256;

/** Nearest background pictures whose mean similarity is taken off. */
const BACKGROUND_NEIGHBOURS = 10;

const PRECISION = 0.9;

const WORST = 8;
const SHOWN = 5;

interface CopyTask {
  readonly source: ImageSource;
  readonly background?: ImageSource;
  readonly global: Pooling;
  readonly pictures: readonly GroupedPicture[];
  /** Places in the source. */
  readonly queries: readonly number[];
  readonly references: readonly number[];
}

/** What one model finds. */
interface Found {
  readonly model: FrozenModel;
  readonly pairs: PairList;
  /** [queries]: 1 where the best reference is the original; NaN for a query that has none. */
  readonly first: Float64Array;
  readonly findings: readonly Finding[];
}

/** @throws DataError for pictures without roles or originals */
export async function evaluateCopy(context: EvaluationContext, request: CopyRequest): Promise<EvaluationReport> {
  const startMs = performance.now();
  const { data, groups, normalise, global = 'cls' } = request;
  const source = await openSource(data);
  try {
    const pictures = await readPictureGroups(source, groups);
    const { queries, references } = rolesOf(pictures, source);
    const background = normalise === undefined ? undefined : await openSource(normalise);
    try {
      const task: CopyTask = { source, background, global, pictures, queries, references };
      const found: Found[] = [];
      for (const [m, model] of context.models.entries()) found.push(await search(context, model, m, task));
      return await reportOf(context, task, found, startMs);
    } finally {
      await background?.close();
    }
  } finally {
    await source.close();
  }
}

/** Where other kinds of matches are in the set too, only copies are queries and originals; distractors are all there are. */
function rolesOf(
  pictures: readonly GroupedPicture[],
  source: ImageSource,
): { readonly queries: number[]; readonly references: number[] } {
  const hasCopies = pictures.some(({ kind }) => kind === 'copy');
  const counts = ({ kind }: GroupedPicture): boolean => !hasCopies || kind === 'copy';
  const places = pictures.map((_, i) => i);
  const queries = places.filter((i) => pictures[i].role === 'query' && counts(pictures[i]));
  const references = places.filter(
    (i) => pictures[i].role === 'distractor' || (pictures[i].role === 'ref' && counts(pictures[i])),
  );
  if (queries.length === 0 || references.length === 0) {
    throw new DataError(
      `${source.path} has ${queries.length} queries and ${references.length} references: ` +
        'a csv must give each picture the role query, ref or distractor',
    );
  }
  const originals = new Set(references.filter((i) => pictures[i].role === 'ref').map((i) => pictures[i].group));
  if (!queries.some((i) => originals.has(pictures[i].group))) {
    throw new DataError(`${source.path}: no query shares its group with a reference, so that nothing can be found`);
  }
  return { queries, references };
}

function isCopy({ pictures }: CopyTask, query: number, reference: number): boolean {
  return pictures[reference].role === 'ref' && pictures[reference].group === pictures[query].group;
}

async function search(context: EvaluationContext, model: FrozenModel, m: number, task: CopyTask): Promise<Found> {
  const { source, background, global, pictures, queries, references } = task;
  // What is left out of a model's pictures is left out of all: it is said once.
  const once = { ...context, note: (text: string) => m === 0 && context.note(text) };
  const featuresOf = (set: ImageSource, what: string, indices?: readonly number[]) =>
    pictureFeatures(once, model, set, { pooling: global, indices, what: `${model.name}: ${what}` });
  const asked = await featuresOf(source, 'queries', queries);
  const known = await featuresOf(source, 'references', references);
  const [q, n] = [asked.rows.rows, known.rows.rows];
  const k = q * n <= MOST_PAIRS ? n : Math.min(n, MOST_CANDIDATES);
  const nearest = await nearestRows(context.gpu, asked.rows, known.rows, k);
  let lowered = new Float64Array(q);
  if (background) {
    const others = await featuresOf(background, 'background');
    const near = await nearestRows(context.gpu, asked.rows, others.rows, BACKGROUND_NEIGHBOURS);
    lowered = lowered.map((_, i) => {
      let sum = 0;
      for (let j = 0; j < near.k; j++) sum += near.similarities[i * near.k + j];
      return sum / near.k;
    });
  }

  // Queries that cannot be read keep their places: their copies count as not found.
  const place = new Map(queries.map((picture, query) => [picture, query]));
  const originals = new Map<string, number>();
  for (const i of references) {
    const { role, group } = pictures[i];
    if (role === 'ref') originals.set(group, (originals.get(group) ?? 0) + 1);
  }
  const truths = Uint32Array.from(queries, (picture) => originals.get(pictures[picture].group) ?? 0);
  const pairs = {
    scores: new Float32Array(q * k),
    queries: new Uint32Array(q * k),
    positive: new Uint8Array(q * k),
    truths,
  };
  const first = Float64Array.from(truths, (count) => (count > 0 ? 0 : Number.NaN));
  const findings: Finding[] = [];
  for (let i = 0; i < q; i++) {
    const picture = asked.indices[i];
    const query = place.get(picture)!;
    for (let j = 0; j < k; j++) {
      const at = i * k + j;
      pairs.scores[at] = nearest.similarities[at] - lowered[i];
      pairs.queries[at] = query;
      pairs.positive[at] = Number(isCopy(task, picture, known.indices[nearest.indices[at]]));
    }
    if (truths[query] === 0) continue;
    first[query] = pairs.positive[i * k];
    const rank = pairs.positive.subarray(i * k, (i + 1) * k).indexOf(1);
    if (m > 0 || rank === 0) continue;
    findings.push({
      caption: `${pictures[picture].transform || 'copy'}: original ${rank < 0 ? 'not found' : `at rank ${rank + 1}`}`,
      query: picture,
      found: Array.from({ length: Math.min(SHOWN, k) }, (_, j) => ({
        picture: known.indices[nearest.indices[i * k + j]],
        caption: `${pairs.positive[i * k + j] ? 'right' : 'wrong'}, ${pairs.scores[i * k + j].toFixed(2)}`,
      })),
    });
  }
  const rankOf = ({ caption }: Finding): number => Number(/rank (\d+)/.exec(caption)?.[1] ?? Number.POSITIVE_INFINITY);
  const worst = findings.sort((a, b) => rankOf(b) - rankOf(a) || a.query - b.query).slice(0, WORST);
  return { model, pairs: rankedPairs(pairs), first, findings: worst };
}

function statisticsOf({ pairs, first }: Found, { pictures, queries }: CopyTask): QueryStatistic[] {
  /** Of the sampled queries that `counts` lets through. */
  const micro = (value: 'averagePrecision' | 'recall', counts: (query: number) => boolean): QueryStatistic['of'] => {
    const chosen = queries.map((_, query) => counts(query));
    return (sample) => {
      const weights = new Uint32Array(queries.length);
      for (let i = 0; i < sample.length; i++) if (chosen[sample[i]]) weights[sample[i]]++;
      return 100 * microAveragePrecision(pairs, weights, PRECISION)[value];
    };
  };
  const transforms = [...new Set(queries.map((i) => pictures[i].transform))].filter((name) => name !== '').sort();
  return [
    { name: 'uAP', of: micro('averagePrecision', () => true) },
    { name: 'R@P90', of: micro('recall', () => true) },
    { name: 'R@1', of: meanOver(first) },
    ...(transforms.length > 1
      ? transforms.map((transform) => ({
          name: `uAP ${transform}`,
          of: micro('averagePrecision', (query) => pictures[queries[query]].transform === transform),
        }))
      : []),
  ];
}

async function reportOf(
  context: EvaluationContext,
  task: CopyTask,
  found: readonly Found[],
  startMs: number,
): Promise<EvaluationReport> {
  const { source, background, global, queries, references } = task;
  const results = searchResults(
    context,
    queries.length,
    found.map((one) => ({ model: one.model, statistics: statisticsOf(one, task) })),
  );
  const [own] = found;
  const notes: string[] = [];
  if (queries.length * references.length > MOST_PAIRS && references.length > MOST_CANDIDATES) {
    notes.push(`of each query the ${MOST_CANDIDATES} nearest of ${references.length} references are ranked`);
  }
  const without = own.pairs.truths.filter((count) => count === 0).length;
  if (without > 0) notes.push(`${without} of ${queries.length} queries are copies of nothing: what they find is wrong`);
  const bars = results.models[0].metrics.filter(({ name }) => name.startsWith('uAP '));
  const figures: Figure[] = [];
  if (bars.length > 0) {
    figures.push({
      kind: 'bars',
      title: `${own.model.name}: micro average precision by transform`,
      unit: '%',
      bars: bars.map(({ name, value }) => ({ label: name.slice('uAP '.length), value })),
    });
  }
  if (own.findings.length > 0) {
    const title = `${own.model.name}: copies whose original is not the first`;
    figures.push(await findingGallery(context, title, own.findings, source, source));
  }
  return {
    task: 'copy',
    dataset: datasetName(source.path),
    train: { path: source.path, pictures: references.length },
    test: { path: source.path, pictures: queries.length },
    settings: {
      global,
      precision: PRECISION,
      ...(background ? { normalise: background.path, backgroundNeighbours: BACKGROUND_NEIGHBOURS } : {}),
    },
    ...results,
    figures,
    notes,
    seconds: (performance.now() - startMs) / 1000,
  };
}
