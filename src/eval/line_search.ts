/**
 * A line search for the weak Wolfe conditions, one evaluation at a time: brackets a rate, then interpolates (cubic where
 * values and slopes of both ends are known, never near an end). Near the minimum, where a decrease drowns in the rounding of
 * the values, the slopes alone decide (the approximate conditions of Hager and Zhang, SIAM J. Optim. 16, 2005).
 */

/** Share of the first slope's promise that the value must keep, and of the first slope that may be left. */
const DECREASE = 1e-4;
const CURVATURE = 0.9;
/** Relative differences of values that may be rounding. */
const NOISE = 2e-7;
const MOST_TRIALS = 50;
/** Nearest that an interpolated rate comes to an end of the bracket, as a share of it. */
const MARGIN = 0.1;

interface Trial {
  readonly rate: number;
  readonly value: number;
  readonly slope: number;
}

export class LineSearch {
  /** To be tried next. */
  rate = 1;
  /** Along the direction at its beginning; negative. Set before the first `judge`. */
  slope = 0;
  private value = 0;
  private low: Trial = { rate: 0, value: 0, slope: 0 };
  private high: Trial | undefined;
  private trials = 0;

  /** A new direction from a point of this value; its slope may become known later. */
  begin(value: number, rate: number): void {
    this.value = value;
    this.rate = rate;
    this.high = undefined;
    this.trials = 0;
  }

  /**
   * What the evaluation at `rate` says: the rate is taken, another must be tried (it is in `rate` then), or none is left.
   * @param slope along the direction, at the trial point
   */
  judge(value: number, slope: number): 'taken' | 'again' | 'stuck' {
    const { rate, value: start, slope: first } = this;
    if (this.trials++ === 0) this.low = { rate: 0, value: start, slope: first };
    const trial = { rate, value, slope };
    const finite = Number.isFinite(value) && Number.isFinite(slope);
    const lower =
      finite &&
      (value <= start + DECREASE * rate * first ||
        (value <= start + NOISE * Math.abs(start) && slope <= (2 * DECREASE - 1) * first));
    if (lower && slope >= CURVATURE * first) return 'taken';
    if (lower) this.low = trial;
    else this.high = trial;
    const { low, high } = this;
    if (this.trials >= MOST_TRIALS || (high && high.rate - low.rate <= 1e-7 * high.rate)) return 'stuck';
    if (high) this.rate = between(low, high);
    else this.rate = 4 * rate;
    return 'again';
  }
}

/** A rate inside the bracket: the cubic's minimum where there is one, else the middle. */
function between(low: Trial, high: Trial): number {
  const width = high.rate - low.rate;
  if (!Number.isFinite(high.value) || !Number.isFinite(high.slope)) return low.rate + MARGIN * width;
  const a = low.slope + high.slope - (3 * (high.value - low.value)) / width;
  const square = a * a - low.slope * high.slope;
  let share = 0.5;
  if (square >= 0) {
    const root = Math.sqrt(square);
    share = 1 - (high.slope + root - a) / (high.slope - low.slope + 2 * root);
  }
  if (!Number.isFinite(share)) share = 0.5;
  return low.rate + Math.min(Math.max(share, MARGIN), 1 - MARGIN) * width;
}
