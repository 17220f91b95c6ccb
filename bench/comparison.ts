/** How the results of a bench case are compared with what they should be: as a whole, by samples, or by slopes. */

import { noise } from '../test/fixture.js';

export interface Comparison {
  readonly what: string;
  /** The largest difference over the largest expected magnitude. */
  readonly error: number;
  readonly bound: number;
}

/** float32 sums of some hundred terms against float64. */
export const FORWARD_BOUND = 2e-5;

/** Sums of some thousand exact products of halves: matrix units round them in their own ways. */
export const HALF_OPERANDS_BOUND = 1e-4;

/** A result rounded to a half, and intermediate ones that were. */
export const HALF_BOUND = 2e-3;

/** Slopes are one number made of all elements: rounding averages out, an element left out does not. */
export const GRADIENT_BOUND = 1e-4;

/** Over `count` pairs. Results have millions of elements: no pair becomes an object. */
function relative(count: number, actual: (i: number) => number, expected: (i: number) => number): number {
  let largest = 0;
  let difference = 0;
  for (let i = 0; i < count; i++) {
    const right = expected(i);
    largest = Math.max(largest, Math.abs(right));
    const d = Math.abs(actual(i) - right);
    // Not Math.max alone: a NaN must count as wrong.
    difference = d <= difference ? difference : Number.isNaN(d) ? Number.POSITIVE_INFINITY : d;
  }
  return difference === 0 ? 0 : difference / largest;
}

/** Every element. */
export function compare(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound = FORWARD_BOUND,
): Comparison {
  const error =
    actual.length === expected.length
      ? relative(
          expected.length,
          (i) => actual[i],
          (i) => expected[i],
        )
      : Number.POSITIVE_INFINITY;
  return { what, error, bound };
}

/** Whole numbers: no difference is allowed. */
export function compareExactly(what: string, actual: ArrayLike<number>, expected: ArrayLike<number>): Comparison {
  return compare(what, actual, expected, 0);
}

/** `count` places of 0 to `length` - 1, scattered, with both ends among them. */
export function samplePlaces(length: number, count = 500): number[] {
  if (length <= count) return Array.from({ length }, (_, i) => i);
  const scattered = Array.from({ length: count - 2 }, (_, j) =>
    Math.floor((((j + 1) * 0.6180339887498949) % 1) * length),
  );
  return [0, ...scattered, length - 1];
}

/** Some elements, each from its own definition: for results whose full oracle would take minutes. */
export function compareSamples(
  what: string,
  actual: ArrayLike<number>,
  expectedAt: (place: number) => number,
  bound = FORWARD_BOUND,
): Comparison {
  const places = samplePlaces(actual.length);
  const error = relative(
    places.length,
    (i) => actual[places[i]],
    (i) => expectedAt(places[i]),
  );
  return { what, error, bound };
}

/**
 * A gradient against the slope of the oracle along a random direction, by central differences in float64: two
 * evaluations check all elements at once. The error is relative to the slope that such a direction is expected to have.
 * @param at the input that the gradient belongs to; changed and restored
 * @param value sum of upstream gradient × oracle at the present input
 */
export function compareSlope(
  what: string,
  gradient: ArrayLike<number>,
  at: Float64Array,
  value: () => number,
  bound = GRADIENT_BOUND,
): Comparison {
  const direction = noise(at.length, 4711);
  const before = at.slice();
  const h = 1e-5;
  const valueAt = (step: number): number => {
    for (let i = 0; i < at.length; i++) at[i] = before[i] + step * direction[i];
    return value();
  };
  const slope = (valueAt(h) - valueAt(-h)) / (2 * h);
  at.set(before);
  let along = 0;
  let squares = 0;
  let directionSquares = 0;
  for (let i = 0; i < at.length; i++) {
    along += gradient[i] * direction[i];
    squares += gradient[i] ** 2;
    directionSquares += direction[i] ** 2;
  }
  const expected = Math.sqrt((squares * directionSquares) / at.length);
  const difference = Math.abs(along - slope);
  const error = difference === 0 ? 0 : difference / expected;
  return { what, error: Number.isNaN(error) ? Number.POSITIVE_INFINITY : error, bound };
}
