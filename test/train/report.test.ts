/** The report: one file that asks for nothing, says what it was given, and trusts no text. */
import test from 'tape';
import { configToYaml, loadConfig } from '../../src/train/config.js';
import { lineChart, ticks } from '../../src/io/plot.js';
import { type ReportData, reportHtml } from '../../src/train/report.js';

const picture = (width: number, height: number) => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(90),
});

const DATA: ReportData = {
  title: 'runs/<b>first</b>',
  subtitle: 'test data',
  configYaml: configToYaml(loadConfig({ preset: 'quickstart' })),
  machine: [['Adapter', 'a "card" & more']],
  metrics: Array.from({ length: 500 }, (_, i) => ({
    step: i * 10,
    total_loss: 5 - i / 200,
    koleo_loss: 0.1 - i / 1000,
    images_per_second: 100,
    ...(i % 100 === 0 ? { knn_top1_k10: 20 + i / 50, knn_top1_k200: 18 + i / 50 } : {}),
  })),
  wallTimeMs: 125_000,
  knn: {
    dataset: 'digits',
    k: [10, 200],
    rows: [
      { name: 'teacher', top1: [61.25, 58] },
      { name: 'raw pixels', top1: [33, 30] },
    ],
  },
  pca: [{ source: picture(28, 28), patches: picture(4, 4) }],
  crops: [{ label: 'digit', pictures: [picture(28, 28), picture(14, 14)] }],
  warnings: [{ step: 60, message: 'The teacher says <nothing>.', cure: 'Train longer.' }],
  badPictures: Array.from({ length: 250 }, (_, i) => ({ path: `broken/${i}.jpg`, reason: 'truncated' })),
};

test('report: self-contained, escaped, complete', async (t) => {
  const html = await reportHtml(DATA);
  t.equal(html, await reportHtml(DATA), 'the same data give the same text');
  t.notOk(/(?:src|href)\s*=\s*"(?!data:)/.test(html), 'every source is a data URI');
  t.notOk(/url\(|@import|fetch\(/.test(html), 'nothing is loaded from elsewhere');
  t.equal(html.match(/https?:\/\/[^"'\s)]+/g)?.filter((url) => url !== 'http://www.w3.org/2000/svg').length ?? 0, 0);
  t.notOk(html.includes('<b>first</b>') || html.includes('<nothing>') || html.includes('"card"'), 'text is escaped');
  t.equal(html.match(/<img src="data:image\/png;base64,iVBOR/g)?.length, 4);
  for (const part of [
    '61.3',
    'k = 200',
    'raw pixels',
    'Step 60.',
    '250 could not be read',
    'and 50 more',
    'head_n_prototypes: 128',
    '2 min 05 s',
    '4,991',
  ]) {
    t.ok(html.includes(part), part);
  }
  t.equal(html.match(/<figure class="chart">/g)?.length, 4, 'only charts that have points: loss, KoLeo, speed, kNN');
});

test('report: a run with nothing logged yet', async (t) => {
  const html = await reportHtml({ title: 'empty', configYaml: '', machine: [], metrics: [] });
  t.notOk(/NaN|undefined|Infinity/.test(html));
});

test('plot: ticks are round and cover the range', async (t) => {
  t.deepEqual(ticks(0, 5000, 4), [0, 2000, 4000, 6000]);
  t.deepEqual(ticks(-0.03, 0.05, 4), [-0.04, -0.02, 0, 0.02, 0.04, 0.06]);
  for (const [low, high] of [
    [0, 0],
    [3, 3],
    [-2, -2],
    [1e-9, 2e-9],
    [0.992, 1],
    [-1e6, 5e6],
  ]) {
    const marks = ticks(low, high, 4);
    t.ok(
      marks[0] <= low && marks.at(-1)! >= high && marks.length >= 2 && marks.length <= 8,
      `${low} … ${high}: ${marks.join(', ')}`,
    );
  }
});

test('plot: points that are no numbers are left out; long lines keep their last value', async (t) => {
  const chart = lineChart({
    title: 'loss',
    series: [
      {
        label: 'loss',
        points: [
          [0, 1],
          [1, Number.NaN],
          [2, Number.POSITIVE_INFINITY],
          [3, 2],
        ],
      },
    ],
  });
  t.notOk(/NaN|Infinity/.test(chart));
  t.equal(lineChart({ title: 'loss', series: [{ label: 'loss', points: [[0, Number.NaN]] }] }), '');
  const points = Array.from({ length: 1000 }, (_, i) => [i, i === 999 ? 77 : i % 10] as [number, number]);
  const long = lineChart({ title: 'loss', series: [{ label: 'loss', points }] });
  t.ok(long.includes('<b>77</b>'), 'the last value as given, not an average');
  t.ok(long.includes('<polygon'), 'with a band from minimum to maximum');
});
