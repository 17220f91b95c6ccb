/** Collapse alarms: seen in time, said once, silent on healthy numbers. */
import { readFileSync } from 'node:fs';
import test from 'tape';
import { checkFinite, CollapseWatch, type CollapseSigns, featureStd, meanEntropy } from '../../src/train/collapse.js';

const OPTIONS = { prototypes: 1024, embedDim: 192, koleoWeight: 0.1 };
const LN_K = Math.log(1024);

function kindsAndSteps(
  signs: (step: number) => Omit<CollapseSigns, 'step'>,
  steps: number[],
  options = OPTIONS,
): [string, number][] {
  const watch = new CollapseWatch(options);
  return steps.flatMap((step) =>
    watch.observe({ step, ...signs(step) }).map(({ kind, step: at }) => [kind, at] as [string, number]),
  );
}

/** Runs of a hundred steps whose signs were recorded; see the fixture for what each was. */
interface RecordedRun {
  options: typeof OPTIONS;
  /** Alarms that are due; none for a run that learns. */
  alarms: string[];
  signs: CollapseSigns[];
}

const RECORDED = JSON.parse(readFileSync(new URL('../fixtures/collapse_signs.json', import.meta.url), 'utf8')) as {
  runs: Record<string, RecordedRun>;
};

for (const [name, { options, alarms, signs }] of Object.entries(RECORDED.runs)) {
  test(`collapse: recorded run, ${name}`, async (t) => {
    const byStep = new Map(signs.map((sign) => [sign.step, sign]));
    const seen = kindsAndSteps((step) => byStep.get(step)!, [...byStep.keys()], options);
    t.deepEqual(seen.map(([kind]) => kind).sort(), alarms, JSON.stringify(seen));
    t.ok(
      seen.every(([, step]) => step <= 100),
      'within a hundred steps',
    );
  });
}

const every = (period: number, end: number) =>
  Array.from({ length: Math.floor(end / period) + 1 }, (_, i) => i * period);

test('collapse: a uniform teacher is seen within the first hundred steps and said once', async (t) => {
  for (const period of [1, 10, 50]) {
    const seen = kindsAndSteps(() => ({ teacherEntropy: 0.995 * LN_K }), every(period, 1000));
    t.equal(seen.length, 1, `logged every ${period} steps: one warning`);
    t.ok(seen[0][0] === 'uniform-teacher' && seen[0][1] <= 100, `at step ${seen[0][1]}`);
  }
});

test('collapse: healthy numbers, and odd ones that pass at once, are not warned of', async (t) => {
  t.deepEqual(
    kindsAndSteps(
      (step) => ({
        teacherEntropy: (step < 30 ? 0.999 : 0.93 - step / 5000) * LN_K,
        teacherMarginalEntropy: 0.98 * LN_K,
        featureStd: step < 80 ? 1e-4 : 0.06,
        dinoLoss: LN_K * (step < 200 ? 0.999 : 0.9),
        koleoLoss: 0.3 - Math.min(step, 40) * 1e-3,
      }),
      every(10, 1000),
    ),
    [],
  );
});

test('collapse: one prototype, shrunken features, KoLeo alone', async (t) => {
  t.deepEqual(
    kindsAndSteps(() => ({ teacherMarginalEntropy: 0.01, teacherEntropy: 2 }), every(10, 200)),
    [['one-prototype', 50]],
  );
  t.deepEqual(
    kindsAndSteps(() => ({ featureStd: 0.001 }), every(10, 200)),
    [['shrunken-features', 80]],
  );
  const koleo = (step: number) => ({ dinoLoss: 0.985 * LN_K, koleoLoss: 0.9 - Math.min(step, 100) * 0.002 });
  t.deepEqual(kindsAndSteps(koleo, every(10, 300)), [['koleo-dominates', 80]]);
});

test('collapse: a KoLeo that pulls hard is left alone while kNN rises', async (t) => {
  for (const [top1, alarms] of [
    [71, ['koleo-dominates']],
    [79, []],
  ] as const) {
    const watch = new CollapseWatch(OPTIONS);
    watch.observeKnn(70);
    const seen = every(10, 200).flatMap((step) => {
      if (step === 50) watch.observeKnn(top1);
      return watch.observe({ step, dinoLoss: 0.96 * LN_K, koleoLoss: 0.2 - Math.min(step, 100) * 0.003 });
    });
    t.deepEqual(
      seen.map(({ kind }) => kind),
      alarms,
      `70 to ${top1} %`,
    );
  }
});

test('collapse: hovering at the threshold warns once; a clear recovery arms it again', async (t) => {
  const watch = new CollapseWatch(OPTIONS);
  const steps: number[] = [];
  for (const step of every(10, 900)) {
    let share = step % 20 === 0 || step < 100 ? 0.99 : 0.98;
    if (step >= 400 && step < 500) share = 0.8;
    if (step >= 500) share = 0.99;
    steps.push(...watch.observe({ step, teacherEntropy: share * LN_K }).map((warning) => warning.step));
  }
  t.deepEqual(steps, [50, 550]);
});

test('collapse: messages carry numbers and a cure', async (t) => {
  const watch = new CollapseWatch(OPTIONS);
  watch.observe({ step: 0, teacherEntropy: 6.93 });
  const [warning] = watch.observe({ step: 60, teacherEntropy: 6.93 });
  t.ok(warning.message.includes('6.93 of at most 6.93 (ln 1024)'), warning.message);
  t.ok(warning.cure.includes('student.layerscale'), warning.cure);
});

test('featureStd and meanEntropy', async (t) => {
  t.equal(featureStd(Float32Array.of(1, 2, 1, 2, 3, 6), 3, 2), 0, 'rows of one direction');
  t.ok(
    Math.abs(featureStd(Float32Array.of(5, 0, -1, 0, 0, 2, 0, -3), 4, 2) - 1 / Math.sqrt(2)) < 1e-7,
    'rows in all directions',
  );
  t.ok(Math.abs(meanEntropy(Float32Array.of(0.5, 0.5, 1, 0), 2, 2) - Math.log(2) / 2) < 1e-7);
});

test('checkFinite names the term', async (t) => {
  checkFinite({ total_loss: 1, koleo_loss: -0.2 }, 3);
  t.throws(
    () => checkFinite({ total_loss: Number.NaN, ibot_loss: 1, koleo_loss: Number.POSITIVE_INFINITY }, 12),
    /step 12: koleo_loss is Infinity\..*koleo_loss_weight 0/,
  );
  t.throws(() => checkFinite({ total_loss: Number.NaN }, 1), /step 1: total_loss is NaN/);
});
