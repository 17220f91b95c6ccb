/**
 * metrics.jsonl: one JSON object a line, one line a logged step or evaluation, appended as training goes. What the
 * numbers are called, what they mean and what is healthy stands in {@link METRICS}, which the report prints too.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { writeFileAtomic } from '../io/atomic.js';
import { DataError } from '../errors.js';

/** One line. `step` is the iteration, 0-based; every other entry is optional. */
export interface MetricsRecord {
  step: number;
  [name: string]: number | string | null;
}

/** What one number is. */
export interface MetricDescription {
  label: string;
  /** Unit, empty for a bare number. */
  unit: string;
  /** What to expect of it, one sentence. */
  healthy: string;
}

/** Names used in metrics.jsonl, in the order of the report. The losses are logged as the official
 * code logs them; `knn_top1` is logged once for each number of neighbours, as `knn_top1_k20`. */
export const METRICS = {
  total_loss: {
    label: 'Total loss',
    unit: '',
    healthy: 'Falls, then may rise or stay flat. Judge by kNN, not by this.',
  },
  dino_local_crops_loss: {
    label: 'DINO, local crops',
    unit: '',
    healthy: 'Starts near ln K · n/(n+1), n local crops, and falls.',
  },
  dino_global_crops_loss: {
    label: 'DINO, global crops',
    unit: '',
    healthy: 'Starts near ln K / (n+1), n local crops, and falls.',
  },
  ibot_loss: { label: 'iBOT (half of the term)', unit: '', healthy: 'Falls more slowly than DINO.' },
  koleo_loss: { label: 'KoLeo (weighted)', unit: '', healthy: 'Falls at first, may go below zero, then stays.' },
  knn_top1: { label: 'kNN top-1', unit: '%', healthy: 'Rises. The one curve that tells whether features get better.' },
  feature_std: {
    label: 'Feature spread',
    unit: '',
    healthy: 'Near 1/√D for normalised CLS features; near 0 means collapse.',
  },
  teacher_entropy: { label: 'Teacher entropy', unit: 'nats', healthy: 'Between 0 and ln K, well away from both.' },
  lr: { label: 'Learning rate', unit: '', healthy: 'Warm-up from 0, then a cosine.' },
  last_layer_lr: { label: 'Learning rate, last layer', unit: '', healthy: 'As the learning rate, but 0 at first.' },
  weight_decay: { label: 'Weight decay', unit: '', healthy: 'Rises along a cosine.' },
  momentum: { label: 'Teacher momentum', unit: '', healthy: 'Rises to 1 along a cosine.' },
  teacher_temp: { label: 'Teacher temperature', unit: '', healthy: 'Rises in its warm-up, then stays.' },
  grad_norm_backbone: { label: 'Gradient norm, backbone', unit: '', healthy: 'Steady; clipped above optim.clip_grad.' },
  grad_norm_dino_head: {
    label: 'Gradient norm, DINO head',
    unit: '',
    healthy: 'Steady; clipped above optim.clip_grad.',
  },
  grad_norm_ibot_head: {
    label: 'Gradient norm, iBOT head',
    unit: '',
    healthy: 'Steady; clipped above optim.clip_grad.',
  },
  loss_scale: { label: 'Loss scale', unit: '', healthy: 'Halves now and then, doubles every 2,000 steps.' },
  images_per_second: { label: 'Speed', unit: 'images/s', healthy: 'Flat. A fall points at the disk or at heat.' },
  step_ms: { label: 'Time of a step', unit: 'ms', healthy: 'Flat.' },
  data_wait_ms: {
    label: 'Waiting for pictures',
    unit: 'ms',
    healthy: 'Near 0. Else more train.num_workers or smaller pictures.',
  },
} as const satisfies Record<string, MetricDescription>;

/** A name of {@link METRICS}. */
export type MetricName = keyof typeof METRICS;

/** Appends to metrics.jsonl. Each line is written at once and whole. */
export class MetricsWriter {
  private constructor(private file: number | undefined) {}

  /**
   * Opens the file for appending. Without `resumeStep` a former file is replaced; with it, lines of steps from
   * `resumeStep` on are dropped (a run that was killed had logged beyond its last checkpoint), half-written ones too.
   *
   * @param options.resumeStep the first step that will be run again.
   */
  static async open(path: string, options: { resumeStep?: number } = {}): Promise<MetricsWriter> {
    const { resumeStep } = options;
    const kept =
      resumeStep !== undefined && existsSync(path) ? readMetrics(path).filter(({ step }) => step < resumeStep) : [];
    await writeFileAtomic(path, kept.map((record) => toLine(record)).join(''));
    return new MetricsWriter(openSync(path, 'a'));
  }

  /** Appends one line. Numbers that JSON cannot hold (NaN, infinities) are written as text. */
  write(record: MetricsRecord): void {
    if (this.file === undefined) throw new DataError('metrics.jsonl is closed already.');
    writeSync(this.file, toLine(record));
  }

  /** Flushes to the disk and closes. */
  close(): void {
    if (this.file === undefined) return;
    fsyncSync(this.file);
    closeSync(this.file);
    this.file = undefined;
  }
}

/**
 * Reads metrics.jsonl. A last line cut off by a crash is left out.
 * @throws DataError for any other line that is not a record, naming it.
 */
export function readMetrics(path: string): MetricsRecord[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  const cutOff = lines.pop();
  const records = lines.flatMap((line, i) => {
    if (line.trim() === '') return [];
    const record = parseLine(line);
    if (!record) throw new DataError(`${path}, line ${i + 1}: not a metrics record. Remove the line to go on.`);
    return [record];
  });
  const last = cutOff ? parseLine(cutOff) : undefined;
  return last ? [...records, last] : records;
}

function toLine(record: MetricsRecord): string {
  return (
    JSON.stringify(record, (_, value) =>
      typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
    ) + '\n'
  );
}

function parseLine(line: string): MetricsRecord | undefined {
  try {
    const record: unknown = JSON.parse(line);
    if (typeof record !== 'object' || record === null || typeof (record as MetricsRecord).step !== 'number')
      return undefined;
    const { ...values } = record as MetricsRecord;
    for (const [name, value] of Object.entries(values)) {
      if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') values[name] = Number(value);
    }
    return values;
  } catch {
    return undefined;
  }
}
