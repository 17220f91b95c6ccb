/**
 * Percentile bootstrap (Efron 1979): how far a metric could have come out otherwise had other test pictures been drawn
 * from the same source. All models of an evaluation see the same draws, so that the difference of two is judged picture by
 * picture: what is hard for both cancels, and the interval of the difference is narrower than those of the two alone.
 */

import { CounterRandom, RandomPurpose } from '../data/random.js';
import { WebdinoError } from '../errors.js';
import type { Margin, Metric } from './result.js';

/**
 * Draws with replacement; draw d depends on the seed and d only, not on how many draws there are.
 * @param samples test pictures (queries, in retrieval)
 * @returns `draws` arrays of [samples] indices
 * @throws WebdinoError without samples or draws
 */
export function bootstrapDraws(samples: number, draws: number, seed: number): Uint32Array[] {
  if (!(samples >= 1 && draws >= 1)) {
    throw new WebdinoError(`a bootstrap needs samples and draws, not ${draws} draws of ${samples} samples`);
  }
  return Array.from({ length: draws }, (_, draw) => {
    const random = new CounterRandom(seed, RandomPurpose.bootstrap, draw);
    return Uint32Array.from({ length: samples }, () => random.integer(0, samples - 1));
  });
}

/**
 * Percentile interval, linear between neighbouring values. Values that are no number (a draw in which the metric is not
 * defined) do not count.
 * @param level share of the values that lie inside
 * @returns [low, high]; both NaN where no value counts
 */
export function interval(values: ArrayLike<number>, level = 0.95): [number, number] {
  const sorted = Float64Array.from(values)
    .filter((value) => !Number.isNaN(value))
    .sort();
  const outside = (1 - level) / 2;
  return [quantile(sorted, outside), quantile(sorted, 1 - outside)];
}

function quantile(sorted: Float64Array, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/**
 * The metric of every draw.
 * @param statistic of the pictures at these places, some of them several times
 */
export function bootstrapMetric(
  draws: readonly Uint32Array[],
  statistic: (sample: Uint32Array) => number,
): Float64Array {
  return Float64Array.from(draws, statistic);
}

/**
 * How far one model is ahead of another, positive where it is better in the sense of the metric.
 * @param values the metric of each draw for `model`
 * @param otherValues the same for `against`, of the same draws
 * @throws WebdinoError where the two metrics or draws do not belong together
 */
export function pairedMargin(
  model: string,
  against: string,
  metric: Metric,
  otherMetric: Metric,
  values: Float64Array,
  otherValues: Float64Array,
): Margin {
  if (metric.name !== otherMetric.name || values.length !== otherValues.length) {
    throw new WebdinoError(
      `${model} and ${against} cannot be compared: ${metric.name} of ${values.length} draws, ` +
        `${otherMetric.name} of ${otherValues.length}`,
    );
  }
  const sign = metric.better === 'higher' ? 1 : -1;
  return {
    model,
    against,
    metric: metric.name,
    unit: metric.unit,
    difference: sign * (metric.value - otherMetric.value),
    interval: interval(values.map((value, draw) => sign * (value - otherValues[draw]))),
  };
}
