/**
 * The line that shows a run going: on a terminal one line redrawn in place (bar, speed, time left, losses), in a pipe
 * or a log file a plain line every ten seconds. It writes to stderr, so that stdout stays free for results.
 */

/** The stream written to; `process.stderr` fits. */
export interface ProgressStream {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** How a {@link Progress} behaves. */
export interface ProgressOptions {
  /** Steps of the whole run. */
  totalSteps: number;
  /** Step the run starts at; not 0 after a resume. */
  startStep?: number;
  stream?: ProgressStream;
  /** Only notes are shown. */
  quiet?: boolean;
  /** Clock in milliseconds. */
  now?: () => number;
}

/** What one step reports. */
export interface ProgressUpdate {
  /** Steps done. */
  step: number;
  imagesPerSecond?: number;
  /** Named numbers to show, in order, such as loss terms. */
  values?: Readonly<Record<string, number>>;
}

const BAR_WIDTH = 24;
const REDRAW_MS = 100;
const PLAIN_LINE_MS = 10_000;

/** The progress of one run. Call {@link update} as often as you like; it draws only when it is time. */
export class Progress {
  private totalSteps: number;
  private label = '';
  private startStep: number;
  private readonly stream: ProgressStream;
  private readonly quiet: boolean;
  private readonly now: () => number;
  private startMs: number;
  private lastDrawMs = Number.NEGATIVE_INFINITY;
  private lastUpdate: ProgressUpdate | undefined;
  private lastIsDrawn = true;
  private lineIsOpen = false;

  constructor(options: ProgressOptions) {
    this.totalSteps = options.totalSteps;
    this.startStep = options.startStep ?? 0;
    this.stream = options.stream ?? process.stderr;
    this.quiet = options.quiet ?? false;
    this.now = options.now ?? (() => performance.now());
    this.startMs = this.now();
  }

  /** Takes the newest numbers; draws at most ten times a second on a terminal, every ten seconds elsewhere. */
  update(update: ProgressUpdate): void {
    this.lastUpdate = update;
    this.lastIsDrawn = false;
    if (this.quiet || this.now() - this.lastDrawMs < (this.stream.isTTY ? REDRAW_MS : PLAIN_LINE_MS)) return;
    this.draw();
  }

  /** Time left is reckoned from here on: what came before `step` (compiling, baselines) says nothing of the rest. */
  startClock(step: number): void {
    this.startStep = step;
    this.startMs = this.now();
  }

  /** Goes on with another count, named before its numbers: one line shows one stage after the other. */
  begin(label: string, totalSteps: number): void {
    this.label = label;
    this.totalSteps = totalSteps;
    this.lastUpdate = undefined;
    this.lastIsDrawn = true;
    this.startClock(0);
  }

  /** A line of its own above the progress line: a warning, a checkpoint. Shown even when quiet. */
  note(text: string): void {
    this.clearLine();
    this.stream.write(text + '\n');
    if (this.lineIsOpen) this.draw();
  }

  /** A note that is left out when quiet: what goes well. */
  tell(text: string): void {
    if (!this.quiet) this.note(text);
  }

  /** Draws the last numbers and ends the line. */
  done(): void {
    if (!this.quiet && !this.lastIsDrawn) this.draw();
    if (this.lineIsOpen) this.stream.write('\n');
    this.lineIsOpen = false;
  }

  private draw(): void {
    if (!this.lastUpdate) return;
    this.lastDrawMs = this.now();
    this.lastIsDrawn = true;
    const text = this.describe(this.lastUpdate);
    if (!this.stream.isTTY) {
      this.stream.write(text + '\n');
      return;
    }
    this.clearLine();
    this.stream.write(text.slice(0, (this.stream.columns ?? 80) - 1));
    this.lineIsOpen = true;
  }

  private clearLine(): void {
    if (this.lineIsOpen) this.stream.write('\r\x1b[2K');
  }

  private describe({ step, imagesPerSecond, values = {} }: ProgressUpdate): string {
    const share = this.totalSteps > 0 ? Math.min(step / this.totalSteps, 1) : 1;
    const parts = [`${step}/${this.totalSteps}`];
    if (this.stream.isTTY) {
      const filled = Math.round(share * BAR_WIDTH);
      parts.unshift('█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled));
    } else {
      parts.push(`${Math.floor(share * 100)}%`);
    }
    if (this.label !== '') parts.unshift(this.label);
    if (imagesPerSecond !== undefined) parts.push(`${shortNumber(imagesPerSecond)} images/s`);
    const done = step - this.startStep;
    if (done > 0 && step < this.totalSteps) {
      const elapsedMs = this.now() - this.startMs;
      parts.push(`${formatDuration((elapsedMs / done) * (this.totalSteps - step))} left`);
    }
    for (const [name, value] of Object.entries(values)) parts.push(`${name} ${shortNumber(value)}`);
    return parts.join('  ');
  }
}

/** A duration as a person reads it: 45 s, 3 min 20 s, 5 h 02 min, 3 d 4 h. */
export function formatDuration(timeMs: number): string {
  const seconds = Math.round(timeMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, '0')} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Four significant digits, without an exponent where that stays short. */
export function shortNumber(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const magnitude = Math.abs(value);
  if (magnitude < 1e-3 || magnitude >= 1e6) return value.toExponential(1).replace('e+', 'e');
  if (magnitude >= 1000) return String(Math.round(value));
  return String(Number(value.toPrecision(4)));
}
