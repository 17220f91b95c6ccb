/**
 * Metrics that are functions of sums over pictures, so that a bootstrap over pictures is exact: a draw adds the rows of the
 * pictures it holds, and nothing is approximated by means of means.
 */

import { bootstrapDraws, interval, pairedMargin } from './bootstrap.js';
import type { Margin, Metric } from './result.js';

/** A metric before its value. */
export type MetricKind = Pick<Metric, 'name' | 'unit' | 'better'>;

export interface SummedMetrics {
  /** The first one is the headline. */
  readonly kinds: readonly MetricKind[];
  /** One value a kind, from the sum of some pictures' rows; NaN where it is not defined for them. */
  readonly values: (sums: Float64Array) => readonly number[];
}

/** One row of sums a picture, all of one length. */
export type PictureRows = readonly Float64Array[];

/** Adds the rows at these places, some of them several times. */
export function sumRows(rows: PictureRows, places?: ArrayLike<number>): Float64Array {
  const total = new Float64Array(rows[0]?.length ?? 0);
  const count = places?.length ?? rows.length;
  for (let i = 0; i < count; i++) {
    const row = rows[places ? places[i] : i];
    for (let j = 0; j < total.length; j++) total[j] += row[j];
  }
  return total;
}

/** Metrics of several models over the same pictures, with intervals from the same draws, and margins of the first one. */
export function judge(
  models: readonly { readonly name: string; readonly rows: PictureRows }[],
  metrics: SummedMetrics,
  { draws, seed }: { readonly draws: number; readonly seed: number },
): { readonly metrics: readonly (readonly Metric[])[]; readonly margins: readonly Margin[] } {
  const places = bootstrapDraws(models[0].rows.length, draws, seed);
  const judged = models.map(({ rows }) => {
    const values = metrics.values(sumRows(rows));
    const drawn = places.map((sample) => metrics.values(sumRows(rows, sample)));
    const found = metrics.kinds.map((kind, k): Metric => {
      const [low, high] = interval(drawn.map((one) => one[k]));
      return { ...kind, value: values[k], interval: Number.isNaN(low) ? undefined : [low, high] };
    });
    return { found, headline: Float64Array.from(drawn, (one) => one[0]) };
  });
  const [first, ...others] = judged;
  return {
    metrics: judged.map(({ found }) => found),
    margins: others.map(({ found, headline }, i) =>
      pairedMargin(models[0].name, models[i + 1].name, first.found[0], found[0], first.headline, headline),
    ),
  };
}
