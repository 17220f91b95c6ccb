import test from 'tape';
import { comparisonPage, evaluationPage, figuresHtml } from '../../src/eval/evaluation_page.js';
import { calibrationError, confidenceBins, figureHtml } from '../../src/eval/figure_charts.js';
import { marginText, reportCsv, reportTable } from '../../src/eval/report_text.js';
import type { EvaluationReport, Figure, Margin } from '../../src/eval/result.js';
import { noise } from '../fixture.js';

const PICTURE = { width: 5, height: 3, data: new Uint8Array(45).fill(200) };

const FIGURES: readonly Figure[] = [
  {
    kind: 'confusion',
    title: 'Confusion <b>',
    classNames: ['cat & dog', '<script>', 'ship'],
    counts: [5, 1, 0, 2, 7, 0, 0, 0, 9],
  },
  { kind: 'reliability', title: 'Reliability', confidence: [0.95, 0.95, 0.35, 1], correct: [1, 0, 1, 1] },
  {
    kind: 'bars',
    title: 'Per class',
    unit: '%',
    bars: [
      { label: '<i>cat</i>', value: 40 },
      { label: 'missing', value: Number.NaN },
    ],
  },
  {
    kind: 'scatter',
    title: 'Heights',
    xLabel: 'measured, m',
    yLabel: 'predicted, m',
    points: [
      [0, 1],
      [2, 2.5],
    ],
    diagonal: true,
  },
  {
    kind: 'gallery',
    title: 'Mistakes',
    rows: [{ caption: 'a"b.jpg', pictures: [{ caption: 'truth', picture: PICTURE }] }],
  },
];

function report(overrides: Partial<EvaluationReport> = {}): EvaluationReport {
  const model = (name: string, floor: boolean, top1: number, error: number) => ({
    model: name,
    floor,
    metrics: [
      { name: 'top1', value: top1, unit: '%', better: 'higher', interval: [top1 - 5, top1 + 5] },
      { name: 'RMSE', value: error, unit: 'm', better: 'lower' },
    ] as const,
    chosen: { 'learning rate': 0.01 },
  });
  return {
    task: 'linear',
    dataset: 'pets & <friends>',
    train: { path: 'pets/train', pictures: 1200 },
    test: { path: 'pets/val', pictures: 300 },
    settings: { epochs: 3 },
    models: [model('teacher of <runs>', false, 54.2, 1.5), model('raw, pixels', true, 22, 2.5)],
    margins: [
      {
        model: 'teacher of <runs>',
        against: 'raw, pixels',
        metric: 'top1',
        unit: '%',
        difference: 32.2,
        interval: [25, 39],
      },
    ],
    figures: FIGURES,
    notes: ['3 pictures <were> left out'],
    seconds: 12,
    ...overrides,
  };
}

/** No address outside the page, and every tag that is opened is closed. */
function assertWhole(t: test.Test, html: string): void {
  t.notOk(/(src|href|url)\s*[=(]\s*["']?(https?:)?\/\//.test(html) || /@import|<link/.test(html), 'nothing is loaded');
  const open: string[] = [];
  let broken = '';
  for (const [, end, name, closed] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)\b[^>]*?(\/?)>/gi)) {
    if (closed || /^(meta|img|br)$/.test(name)) continue;
    if (!end) open.push(name);
    else if (open.pop() !== name) broken ||= name;
  }
  t.equal(broken + open.join(), '', 'tags are closed in order');
}

test('evaluationPage: every kind of figure, names made safe, nothing loaded from anywhere', async (t) => {
  const html = await evaluationPage(report());
  assertWhole(t, html);
  for (const title of ['top1, %', 'Confusion &#60;b&#62;', 'Reliability', 'Per class', 'Heights', 'Mistakes']) {
    t.ok(html.includes(`<span class="title">${title}</span>`), title);
  }
  t.equal(html.match(/data:image\/png;base64,/g)?.length, 2, 'the matrix and the gallery are pictures inside');
  for (const raw of ['<runs>', '<script>cat', '<friends>', '<were>', '<i>cat', 'a"b.jpg']) {
    t.notOk(html.includes(raw), `${raw} is escaped`);
  }
  t.ok(html.includes('cat &#38; dog → &#60;script&#62;: <b>1</b> of 6'), 'confusions in words');
  t.ok(html.includes('is ahead of raw, pixels by 32.2 points [25.0, 39.0] in top1'), 'margins in words');
  t.ok(/<td class="best"[^>]*>54\.2<span class="range">49\.2 – 59\.2/.test(html), 'the best value with its interval');
  t.ok(/<td class="best"[^>]*>1\.500/.test(html), 'lower is better for errors');
  t.ok(html.includes('&#34;epochs&#34;: 3') && html.includes('learning rate'), 'settings and what was chosen');
  t.equal(html, await evaluationPage(report()), 'the same page twice');
});

test('figures: 200 classes and many points stay small', async (t) => {
  const classes = 200;
  const counts = Float64Array.from(noise(classes * classes, 3), (value) => (value > 0.6 ? 3 : 0));
  for (let label = 0; label < classes; label++) counts[label * classes + label] = 20;
  const classNames = Array.from({ length: classes }, (_, i) => `class ${i}`);
  const matrix = await figureHtml({ kind: 'confusion', title: 'many', classNames, counts });
  t.ok(matrix.length < 200_000, `${matrix.length} characters for ${classes} classes`);
  t.ok((matrix.match(/class="small"/g)?.length ?? 0) <= 2 * 70, 'no more names than fit');
  const bars = await figureHtml({
    kind: 'bars',
    title: 'many',
    unit: '%',
    bars: classNames.map((label, i) => ({ label, value: i / 2 })),
  });
  t.ok(/lowest 15 of 200/.test(bars) && /all 200/.test(bars), 'both ends, and all to unfold');
  const values = noise(60_000, 4);
  const points = Array.from({ length: 30_000 }, (_, i) => [values[2 * i], values[2 * i + 1]] as const);
  const scatter = await figureHtml({
    kind: 'scatter',
    title: 'many',
    xLabel: 'x',
    yLabel: 'y',
    points,
    diagonal: false,
  });
  t.ok(scatter.length < 100_000 && /3000 of 30000 points/.test(scatter), `${scatter.length} characters`);
  t.equal(await figureHtml({ kind: 'bars', title: 'none', unit: '', bars: [] }), '', 'nothing to draw');
});

test('reliability: bins and the expected calibration error', (t) => {
  const bins = confidenceBins([0.05, 0.15, 0.95, 1], [0, 1, 1, 0], 10);
  t.deepEqual(
    bins.map(({ pictures }) => pictures),
    [1, 1, 0, 0, 0, 0, 0, 0, 0, 2],
    'a confidence of 1 lies in the last',
  );
  t.equal(bins[9].accuracy, 0.5);
  // (0.05 + 0.85 + 2 * 0.475) / 4
  t.ok(Math.abs(calibrationError(bins) - 0.4625) < 1e-12, 'by hand');
  t.equal(calibrationError(confidenceBins([], [])), 0, 'no predictions');
  t.end();
});

test('comparisonPage: one table over all, sections, what failed', async (t) => {
  const first = report();
  const second = report({ task: 'depth', dataset: 'rooms', models: [first.models[1], first.models[0]].slice(0, 1) });
  const html = comparisonPage('All of <it>', 'data', [
    { report: first, figures: await figuresHtml(first), link: 'pets/linear/report.html' },
    { report: second, figures: '' },
    { task: 'canopy', dataset: 'trees', failure: 'no <val> there' },
  ]);
  assertWhole(t, html);
  t.ok(html.includes('<h1>All of &#60;it&#62;</h1>'));
  t.ok(/<b>canopy on trees<\/b> failed: no &#60;val&#62; there/.test(html), 'the reason of a failure');
  const overview = html.slice(html.indexOf('Overview'), html.indexOf('</table>'));
  t.equal(overview.match(/<tr/g)?.length, 4, 'two head lines, two models');
  t.ok(overview.includes('<td>–</td>'), 'a model that a task lacks');
  t.ok(overview.includes('href="#depth-rooms"') && html.includes('id="depth-rooms"'), 'columns lead to sections');
  t.ok(html.includes('href="pets/linear/report.html"'), 'and to pages of their own');
});

test('report text: table, sentences, CSV', (t) => {
  t.equal(
    reportTable(report({ dataset: 'pets' })),
    [
      'linear on pets               top1, %  RMSE, m',
      'teacher of <runs>  54.2 [49.2, 59.2]    1.500',
      'raw, pixels        22.0 [17.0, 27.0]    2.500',
    ].join('\n'),
  );
  const margin: Margin = { model: 'a', against: 'b', metric: 'RMSE', unit: 'm', difference: 0.2, interval: [0.1, 0.3] };
  t.equal(marginText(margin, true), 'a is ahead of b by 0.200 m [0.100, 0.300] in RMSE');
  t.equal(
    marginText({ ...margin, interval: [-0.1, 0.5] }, true),
    'a is ahead of b by 0.200 m [-0.100, 0.500] in RMSE: these test pictures do not show that it is better than this floor',
  );
  t.equal(
    marginText({ ...margin, difference: -0.2, interval: [-0.3, -0.1] }, true),
    'a is behind b by 0.200 m [0.100, 0.300] in RMSE: it does not beat this floor',
  );
  t.equal(
    marginText({ ...margin, difference: -0.2, interval: [-0.3, 0.1] }, false),
    'a is behind b by 0.200 m [-0.100, 0.300] in RMSE: these test pictures leave open which is better',
  );
  t.ok(/^a is level with b .*it does not beat this floor$/.test(marginText({ ...margin, difference: 0 }, true)));
  const csv = reportCsv(report()).split('\n');
  t.equal(csv[0], 'task,dataset,model,floor,top1,top1 low,top1 high,RMSE,RMSE low,RMSE high');
  t.equal(csv[2], 'linear,pets & <friends>,"raw, pixels",true,22,17,27,2.5,,');
  t.end();
});
