/** What the two searches, retrieval and copy detection, report alike: metrics over queries with intervals, galleries. */

import { evalCrop } from '../data/augment.js';
import { readRgb } from '../data/decode.js';
import type { ImageSource } from '../data/source.js';
import { bootstrapDraws, interval, pairedMargin } from './bootstrap.js';
import type { FrozenModel } from './frozen_model.js';
import type { Figure, Margin, Metric, ModelResult } from './result.js';
import type { EvaluationContext } from './task.js';

/** A metric as a function of how often each query counts. */
export interface QueryStatistic {
  readonly name: string;
  /** In percent. @param sample queries, some of them several times */
  readonly of: (sample: ArrayLike<number>) => number;
}

/** Mean of a value a query over a sample, in percent; queries without the value (NaN) do not count. */
export function meanOver(values: ArrayLike<number>): QueryStatistic['of'] {
  return (sample) => {
    let sum = 0;
    let counted = 0;
    for (let i = 0; i < sample.length; i++) {
      const value = values[sample[i]];
      if (Number.isNaN(value)) continue;
      sum += value;
      counted++;
    }
    return (100 * sum) / counted;
  };
}

/**
 * Metrics with intervals over the same draws of queries for all models, and how far the first is ahead of the others.
 * @param models the first statistic of each is the headline
 */
export function searchResults(
  { seed, bootstrapDraws: count }: Pick<EvaluationContext, 'seed' | 'bootstrapDraws'>,
  queries: number,
  models: readonly { readonly model: FrozenModel; readonly statistics: readonly QueryStatistic[] }[],
): { readonly models: ModelResult[]; readonly margins: Margin[] } {
  const draws = bootstrapDraws(queries, count, seed);
  const all = Uint32Array.from({ length: queries }, (_, q) => q);
  const judged = models.map(({ model, statistics }) => {
    const values = statistics.map(({ of }) => Float64Array.from(draws, of));
    const metrics = statistics.map(
      ({ name, of }, i): Metric => ({
        name,
        value: of(all),
        unit: '%',
        better: 'higher',
        interval: interval(values[i]),
      }),
    );
    return { result: { model: model.name, floor: model.floor, metrics }, headline: values[0] };
  });
  const [own, ...others] = judged;
  const margins = others.map(({ result, headline }) =>
    pairedMargin(own.result.model, result.model, own.result.metrics[0], result.metrics[0], own.headline, headline),
  );
  return { models: judged.map(({ result }) => result), margins };
}

/** A query and what was found for it. */
export interface Finding {
  readonly caption: string;
  /** Places in the source. */
  readonly query: number;
  readonly found: readonly { readonly picture: number; readonly caption: string }[];
}

/** Queries with what was found beside them, as the networks see the pictures. */
export async function findingGallery(
  { crop, resize }: Pick<EvaluationContext, 'crop' | 'resize'>,
  title: string,
  findings: readonly Finding[],
  queries: ImageSource,
  database: ImageSource,
): Promise<Figure> {
  const picture = async (source: ImageSource, place: number) => ({
    width: crop,
    height: crop,
    data: evalCrop(await readRgb(source, place), resize, crop),
  });
  const rows = findings.map(async ({ caption, query, found }) => ({
    caption,
    pictures: [
      { caption: `query ${queries.name(query)}`, picture: await picture(queries, query) },
      ...(await Promise.all(
        found.map(async (one) => ({ caption: one.caption, picture: await picture(database, one.picture) })),
      )),
    ],
  }));
  return { kind: 'gallery', title, rows: await Promise.all(rows) };
}
