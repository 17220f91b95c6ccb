/**
 * Instance retrieval (spec §6.7): every query ranks the database by the cosine of frozen features, nothing is trained.
 *
 * Two kinds of truth. Groups: every picture of a group of two or more is a query against all others, and its group are its
 * matches; mean average precision, and hits among the first. Landmarks: the revisited Oxford and Paris protocol, with its
 * three difficulties, junk taken out of the ranking, and trapezoid average precision.
 */

import { croppedSource } from '../data/cropped_source.js';
import { type ImageSource, openSource } from '../data/source.js';
import { DataError } from '../errors.js';
import type { Pooling } from './features.js';
import { datasetName } from './labelled_pair.js';
import { DIFFICULTIES, type Difficulty, type LandmarkTruth, readLandmarkTruth } from './landmark_truth.js';
import { similarityLines } from './nearest_rows.js';
import { pictureFeatures } from './picture_features.js';
import { readPictureGroups } from './picture_groups.js';
import {
  averagePrecision,
  firstRows,
  hitAt,
  precisionAt,
  ranksOf,
  trapezoidAveragePrecision,
} from './ranking_metrics.js';
import type { EvaluationReport, Figure } from './result.js';
import { type Finding, findingGallery, meanOver, type QueryStatistic, searchResults } from './search_report.js';
import type { EvaluationContext } from './task.js';

export interface RetrievalRequest {
  /** Folder or archive of all pictures. */
  readonly data: string;
  /** The csv of groups. Default: that of the archive's name beside it, else class folders. Not with `gnd`. */
  readonly groups?: string;
  /** JSON of the revisited protocol, in place of groups. */
  readonly gnd?: string;
  /** What of a picture is compared. Default `cls`. */
  readonly global?: Pooling;
}

/** Depths of hits in groups, and of precision in the revisited protocol. */
const HIT_DEPTHS = [5, 10];
const PRECISION_DEPTHS = [1, 5, 10];

/** Queries in the gallery, and what is shown of each. */
const WORST = 8;
const SHOWN = 5;

/** The task with its truth, as each model is asked. */
interface Search {
  /** Pictures of the queries; the same as of the database, or parts of them. */
  readonly querySource: ImageSource;
  /** [queries] and [database]: places in their sources. */
  readonly queries: readonly number[];
  readonly database: readonly number[];
  /** Whether both are the same pictures, so that features are computed once. */
  readonly same: boolean;
  /** Kinds of a query's matches, for the gallery: places in the database. */
  readonly truthOf: (query: number) => { readonly right: readonly number[]; readonly out: readonly number[] };
  /** Values of a query whose line is known, one for each of `columns`. */
  readonly judge: (query: number, line: Float32Array) => number[];
  readonly columns: readonly string[];
  readonly statistics: (values: readonly Float64Array[]) => QueryStatistic[];
}

/** @throws DataError for a truth that does not fit the pictures */
export async function evaluateRetrieval(
  context: EvaluationContext,
  request: RetrievalRequest,
): Promise<EvaluationReport> {
  const startMs = performance.now();
  const { data, groups, gnd, global = 'cls' } = request;
  const source = await openSource(data);
  try {
    const notes: string[] = [];
    const search =
      gnd === undefined
        ? await groupSearch(source, groups, notes)
        : landmarkSearch(source, await readLandmarkTruth(gnd, source));
    return await run(context, { search, source, global, gnd, notes, startMs });
  } finally {
    await source.close();
  }
}

async function run(
  context: EvaluationContext,
  task: {
    readonly search: Search;
    readonly source: ImageSource;
    readonly global: Pooling;
    readonly gnd?: string;
    readonly notes: string[];
    readonly startMs: number;
  },
): Promise<EvaluationReport> {
  const { search, source, global, gnd, notes, startMs } = task;
  const { querySource, queries, database, same, judge, columns, truthOf } = search;
  const judged: { model: EvaluationContext['models'][number]; statistics: QueryStatistic[] }[] = [];
  const findings: { query: number; value: number; found: { row: number; similarity: number }[] }[] = [];
  let answered = queries.length;
  for (const [m, model] of context.models.entries()) {
    // What is left out of a model's pictures is left out of all: it is said once.
    const once = { ...context, note: (text: string) => m === 0 && context.note(text) };
    const what = `${model.name}: ${same ? 'pictures' : 'database'}`;
    const found = await pictureFeatures(once, model, source, { pooling: global, indices: database, what });
    const asked = same
      ? found
      : await pictureFeatures(once, model, querySource, {
          pooling: global,
          indices: queries,
          what: `${model.name}: queries`,
        });
    // Corrupt pictures keep their places, as rows that are never similar.
    const databaseRow = rowsByPlace(database, found.indices);
    const rows = rowsByPlace(queries, asked.indices);
    const values = columns.map(() => new Float64Array(queries.length).fill(Number.NaN));
    const present = queries.map((_, q) => q).filter((q) => rows[q] >= 0);
    answered = present.length;
    const { columns: width } = asked.rows;
    const chosen = {
      rows: present.length,
      columns: width,
      readRange: async (first: number, count: number): Promise<Float32Array> => {
        const some = new Float32Array(count * width);
        for (let i = 0; i < count; i++) some.set(await asked.rows.readRange(rows[present[first + i]], 1), i * width);
        return some;
      },
    };
    const line = new Float32Array(database.length);
    let done = 0;
    await similarityLines(context.gpu, chosen, found.rows, (i, similarities) => {
      const query = present[i];
      databaseRow.forEach((row, place) => {
        line[place] = row < 0 ? Number.NEGATIVE_INFINITY : similarities[row];
      });
      judge(query, line).forEach((value, column) => {
        values[column][query] = value;
      });
      context.progress(`${model.name}: rankings`, ++done, present.length);
      if (m > 0) return;
      const first = firstRows(line, SHOWN, truthOf(query).out).filter((row) => databaseRow[row] >= 0);
      findings.push({
        query,
        value: values[0][query],
        found: first.map((row) => ({ row, similarity: line[row] })),
      });
    });
    judged.push({ model, statistics: search.statistics(values) });
  }
  if (answered < queries.length) notes.push(`${queries.length - answered} of ${queries.length} queries cannot be read`);

  const worst = findings
    .filter(({ value }) => !Number.isNaN(value))
    .sort((a, b) => a.value - b.value || a.query - b.query)
    .slice(0, WORST)
    .map(({ query, value, found }): Finding => {
      const right = new Set(truthOf(query).right);
      return {
        caption: `average precision ${(100 * value).toFixed(1)} %, ${right.size} to be found`,
        query: queries[query],
        found: found.map(({ row, similarity }) => ({
          picture: database[row],
          caption: `${right.has(row) ? 'right' : 'wrong'}, ${similarity.toFixed(2)}`,
        })),
      };
    });
  const results = searchResults(context, queries.length, judged);
  const [own] = context.models;
  const figures: Figure[] = [
    await findingGallery(context, `${own.name}: the worst queries`, worst, querySource, source),
  ];
  const byKind = results.models[0].metrics.filter(({ name }) => name.startsWith('mAP '));
  if (byKind.length > 1) {
    figures.unshift({
      kind: 'bars',
      title: `${own.name}: mean average precision`,
      unit: '%',
      bars: byKind.map(({ name, value }) => ({ label: name.slice('mAP '.length), value })),
    });
  }
  return {
    task: 'retrieval',
    dataset: datasetName(source.path),
    train: { path: source.path, pictures: database.length },
    test: { path: source.path, pictures: queries.length },
    settings: { global, protocol: gnd === undefined ? 'groups' : 'revisited', ...(gnd === undefined ? {} : { gnd }) },
    ...results,
    figures,
    notes,
    seconds: (performance.now() - startMs) / 1000,
  };
}

/** For each place the row that holds it, or -1. */
function rowsByPlace(places: readonly number[], held: readonly number[]): number[] {
  const rows = new Map(held.map((place, row) => [place, row]));
  return places.map((place) => rows.get(place) ?? -1);
}

async function groupSearch(source: ImageSource, table: string | undefined, notes: string[]): Promise<Search> {
  const pictures = await readPictureGroups(source, table);
  const members = new Map<string, number[]>();
  pictures.forEach(({ group }, i) => {
    if (group === '') return;
    const places = members.get(group);
    if (places) places.push(i);
    else members.set(group, [i]);
  });
  const matches = (place: number): number[] => members.get(pictures[place].group)?.filter((i) => i !== place) ?? [];
  const database = pictures.map((_, i) => i);
  const queries = database.filter((i) => matches(i).length > 0);
  if (queries.length === 0) {
    throw new DataError(
      `${source.path}: no group has two pictures, so that nothing can be found; give matches the same group`,
    );
  }
  const alone = database.length - queries.length;
  if (alone > 0) notes.push(`${alone} of ${database.length} pictures have no match: they are searched, but do not ask`);
  const kinds = [...new Set(queries.map((i) => pictures[i].kind))].filter((kind) => kind !== '').sort();
  return {
    querySource: source,
    queries,
    database,
    same: true,
    truthOf: (query) => ({ right: matches(queries[query]), out: [queries[query]] }),
    columns: ['average precision', 'first', ...HIT_DEPTHS.map((depth) => `hit ${depth}`)],
    judge: (query, line) => {
      const ranks = ranksOf(line, matches(queries[query]), [queries[query]]);
      return [averagePrecision(ranks), hitAt(ranks, 1), ...HIT_DEPTHS.map((depth) => hitAt(ranks, depth))];
    },
    statistics: ([precision, first, ...hits]) => [
      { name: 'mAP', of: meanOver(precision) },
      { name: 'P@1', of: meanOver(first) },
      ...HIT_DEPTHS.map((depth, i) => ({ name: `R@${depth}`, of: meanOver(hits[i]) })),
      ...(kinds.length > 1
        ? kinds.map((kind) => ({
            name: `mAP ${kind}`,
            of: meanOver(
              precision.map((value, query) => (pictures[queries[query]].kind === kind ? value : Number.NaN)),
            ),
          }))
        : []),
    ],
  };
}

function landmarkSearch(source: ImageSource, { database, queries }: LandmarkTruth): Search {
  // The same photograph may be asked about twice, with another box: each query is a picture of its own.
  const querySource = queriesOf(source, queries);
  const difficulties: readonly Difficulty[] = ['Medium', 'Hard', 'Easy'];
  const rowsOf = (query: number, parts: readonly ('easy' | 'hard' | 'junk')[]): number[] =>
    parts.flatMap((part) => [...queries[query][part]]);
  return {
    querySource,
    queries: queries.map((_, q) => q),
    database,
    same: false,
    truthOf: (query) => ({
      right: rowsOf(query, DIFFICULTIES.Medium.right),
      out: rowsOf(query, DIFFICULTIES.Medium.junk),
    }),
    columns: difficulties.flatMap((difficulty) => [
      difficulty,
      ...PRECISION_DEPTHS.map((depth) => `${difficulty} ${depth}`),
    ]),
    judge: (query, line) =>
      difficulties.flatMap((difficulty) => {
        const { right, junk } = DIFFICULTIES[difficulty];
        const ranks = ranksOf(line, rowsOf(query, right), rowsOf(query, junk));
        return [trapezoidAveragePrecision(ranks), ...PRECISION_DEPTHS.map((depth) => precisionAt(ranks, depth))];
      }),
    statistics: (values) => {
      const each = 1 + PRECISION_DEPTHS.length;
      return [
        ...difficulties.map((difficulty, i) => ({ name: `mAP ${difficulty}`, of: meanOver(values[i * each]) })),
        ...difficulties.flatMap((difficulty, i) =>
          PRECISION_DEPTHS.map((depth, d) => ({
            name: `mP@${depth} ${difficulty}`,
            of: meanOver(values[i * each + 1 + d]),
          })),
        ),
      ];
    },
  };
}

/** Every query as a picture of its own, cut to its box. */
function queriesOf(source: ImageSource, queries: LandmarkTruth['queries']): ImageSource {
  const asked: ImageSource = {
    path: source.path,
    length: queries.length,
    name: (query) => source.name(queries[query].picture),
    label: () => undefined,
    read: (query) => source.read(queries[query].picture),
    close: async () => {},
  };
  const boxes = new Map(queries.flatMap(({ box }, query) => (box ? [[query, box] as const] : [])));
  return croppedSource(asked, boxes);
}
