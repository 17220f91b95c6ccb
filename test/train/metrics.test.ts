/** metrics.jsonl: appending, resuming, and lines that a crash cut off. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { MetricsWriter, readMetrics } from '../../src/train/metrics.js';

async function inTemporaryFile(body: (path: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-metrics-'));
  try {
    await body(join(folder, 'run', 'metrics.jsonl'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('metrics: lines are there at once; a new run replaces the file', async (t) => {
  await inTemporaryFile(async (path) => {
    const writer = await MetricsWriter.open(path);
    writer.write({ step: 0, total_loss: 5.5 });
    t.equal(readFileSync(path, 'utf8'), '{"step":0,"total_loss":5.5}\n');
    writer.write({ step: 10, total_loss: Number.NaN, koleo_loss: Number.NEGATIVE_INFINITY });
    writer.close();
    t.deepEqual(readMetrics(path)[1], { step: 10, total_loss: Number.NaN, koleo_loss: Number.NEGATIVE_INFINITY });
    t.throws(() => writer.write({ step: 20 }), /closed/);
    (await MetricsWriter.open(path)).close();
    t.deepEqual(readMetrics(path), []);
  });
});

test('metrics: a resumed run drops what was logged beyond its checkpoint', async (t) => {
  await inTemporaryFile(async (path) => {
    const writer = await MetricsWriter.open(path);
    for (const step of [0, 10, 20, 30]) writer.write({ step, lr: step / 10 });
    writer.close();
    appendFileSync(path, '{"step":40,"lr":');
    t.equal(readMetrics(path).length, 4, 'the line cut off is left out');
    const resumed = await MetricsWriter.open(path, { resumeStep: 20 });
    resumed.write({ step: 20, lr: -1 });
    resumed.close();
    t.deepEqual(readMetrics(path), [
      { step: 0, lr: 0 },
      { step: 10, lr: 1 },
      { step: 20, lr: -1 },
    ]);
  });
});

test('metrics: a foreign line is named', async (t) => {
  await inTemporaryFile(async (path) => {
    (await MetricsWriter.open(path)).close();
    writeFileSync(path, '{"step":0}\nhello\n{"step":1}\n');
    t.throws(() => readMetrics(path), /metrics\.jsonl, line 2: not a metrics record/);
  });
});
