import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { Calibration } from '../../bench/calibration.js';
import { type Ceilings, usesMatrices } from '../../bench/ceilings.js';
import { type BenchSection, checkedBench, operatorCase, WITH_BACKWARD } from '../../bench/checked_bench.js';
import { compare } from '../../bench/comparison.js';
import { forwardAndBackward } from '../../bench/differentiable.js';
import { benchPage } from '../../bench/page.js';
import { type BenchReport, refusals } from '../../bench/run_suites.js';
import { dryStep, type StepSettings } from '../../bench/step_suite.js';
import { againstCeilings, isMeasured, OPERATOR_SUITES, runOperators } from '../../bench/suites.js';
import { peerLine, rowLine } from '../../bench/tables.js';
import * as copyRows from '../../kernels/copy_rows.js';
import { swiglu } from '../../src/tensor/swiglu.js';
import { noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/tokens.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SECONDS = 0.01;

const CEILINGS: Ceilings = {
  copy: { work: 'copy', perSecond: 1e9, ms: 1 },
  gemm: { work: 'gemm', perSecond: 1e10, ms: 1 },
};

/** Copies; swiglu right, and swiglu compared with an oracle that is off; a case too small to tell anything. */
function sectionOf(factor: number): BenchSection {
  const copy = (rows: number) =>
    operatorCase('copy', `${rows} × 1024`, (program) => {
      const source = program.input('source', [rows, 1024]);
      const data = noise(source.elements, 1);
      return {
        prepare: () => program.write(source, data),
        record: () => {
          const copied = program.intermediate('copied', [rows, 1024]);
          program.dispatch(copyRows.plan({ rows, columns: 1024, from: 0, to: 0 }), [source, copied]);
          return [copied];
        },
        check: ([copied]) => [compare('copy', copied, data, 0)],
      };
    });
  return {
    name: 'sample',
    question: 'Is what is printed checked?',
    cases: () => [
      copy(256),
      copy(1),
      ...forwardAndBackward({
        operator: 'swiglu',
        shape: '512 × 2 · 512',
        inputs: { x: { shape: [512, 1024] } },
        build: (graph, { x }) => swiglu(graph, x),
        oracle: ({ x }) => oracle.swiglu(x, 512).map((v) => factor * v),
      }),
    ],
    peers: () => [
      {
        operator: 'two',
        shape: '1',
        flops: 1,
        check: (result) => [compare('two', result, [2])],
        peers: [
          {
            name: 'wrong peer',
            open: async () => ({ run: async () => {}, result: async () => Float32Array.of(3), close: () => {} }),
          },
        ],
      },
    ],
  };
}

async function reportOf(factor: number): Promise<BenchReport> {
  const gpu = await testGpu();
  const calibration = await Calibration.open(gpu);
  const suite = { name: 'gemm', question: '', sections: async () => [sectionOf(factor)] };
  const { rows, peers } = await runOperators(gpu, suite, calibration, CEILINGS, { seconds: SECONDS, small: true });
  calibration.close();
  return {
    adapter: 'adapter <of the test>',
    reason: '',
    processor: 'processor',
    processors: 1,
    load: 0,
    node: process.version,
    date: '2026-01-02T03:04:05.000Z',
    suite: 'gemm',
    shapes: 'small',
    ceilings: CEILINGS,
    rows,
    peers,
  };
}

test('rows of right results: time, rates, share of the ceiling, error; the backward pass by itself', async (t) => {
  const report = await reportOf(1);
  t.deepEqual(
    report.rows.map(({ operator }) => operator),
    ['copy', 'swiglu', 'swiglu, backward'],
    'what is too small is left out',
  );
  for (const row of report.rows) {
    if (!isMeasured(row)) {
      t.fail(JSON.stringify(row));
      continue;
    }
    t.ok(row.ms > 0 && row.gigabytesPerSecond > 0 && row.error < 1e-4, `${row.operator}: ${row.ms} ms`);
    t.ok(row.percentOfCeiling > 0 && row.bound === 'memory', `${row.percentOfCeiling} % of the copy`);
    t.ok(row.calibration! > 0, `calibrated: ${row.calibration}`);
    t.ok(/GB\/s/.test(rowLine(row)), rowLine(row));
  }
  t.deepEqual(refusals(report), [], 'nothing is refused');
  const { rows } = JSON.parse(JSON.stringify(report)) as BenchReport;
  t.ok(
    rows.every((row) => isMeasured(row) && Number.isFinite(row.ms)),
    'and JSON holds it',
  );
});

test('a wrong result has no number anywhere', async (t) => {
  const report = await reportOf(1.001);
  const wrong = report.rows.filter(({ operator }) => operator.startsWith('swiglu'));
  t.equal(wrong.length, 2, 'forward, and forward with backward');
  t.equal(wrong[1].operator, `swiglu${WITH_BACKWARD}`, 'of which nothing can be subtracted');
  for (const row of wrong) {
    t.notOk(isMeasured(row), 'no time');
    t.ok(/REFUSED: forward: error/.test(rowLine(row)), rowLine(row));
  }
  t.equal(refusals(report).length, 2, 'the exit code will say so');
  const [peer] = report.peers;
  t.ok(peer.ms === undefined && /wrong result/.test(peerLine(peer)), peerLine(peer));
  const page = benchPage(report);
  t.ok(page.includes('No number') && page.includes('forward: error'), 'the page names them');
  t.notOk(/<circle[^>]*><title>swiglu/.test(page), 'and draws no point');
  t.ok(page.includes('adapter &#60;of the test&#62;'), 'names are escaped');
  t.equal(benchPage(report), page, 'the same data give the same page');
});

test('percent of the ceiling: the slower of memory and operations', (t) => {
  const memory = againstCeilings({ ms: 2, flops: 1e6, bytes: 1e6, onMatrices: false }, CEILINGS);
  t.deepEqual(memory, { bound: 'memory', percentOfCeiling: 50 });
  const compute = againstCeilings({ ms: 2, flops: 2e7, bytes: 1e6, onMatrices: true }, CEILINGS);
  t.deepEqual(compute, { bound: 'compute', percentOfCeiling: 100 }, 'float32 where nothing else was measured');
  t.ok(usesMatrices(['layer_norm', 'gemm_mma']), 'matrices by the kernel’s name');
  t.notOk(usesMatrices(['gamma_sum']), 'which gamma is not');
  t.end();
});

test('every suite has cases, in sizes for a CPU and for a GPU', async (t) => {
  const { capabilities } = await testGpu();
  for (const { name, sections, wants = () => true } of OPERATOR_SUITES) {
    for (const software of [true, false]) {
      const cases = (await sections()).flatMap((section) => section.cases({ ...capabilities, software }));
      t.ok(
        cases.some(({ operator }) => wants(operator)),
        `${name}, ${software ? 'small' : 'full'}`,
      );
    }
  }
});

test('step --dry-run counts memory and work by kernel', async (t) => {
  const settings: StepSettings = {
    arch: 'vit_small',
    patch: 14,
    batch: 2,
    global: 56,
    local: 28,
    nLocal: 2,
    prototypes: 256,
    dropPath: 0.1,
    dtype: 'f32',
    steps: 1,
  };
  const step = await dryStep(await testGpu(), settings);
  if (!('dryRun' in step)) return t.fail(JSON.stringify(step));
  // Five copies of the weights at least: student, teacher, gradients, two moments.
  t.ok(step.peakBytes > 5 * 4 * 21e6, `${step.peakBytes} bytes`);
  t.ok(step.dispatches > 100 && step.flops > 1e9, `${step.dispatches} dispatches`);
  t.equal(
    step.kernels.reduce((sum, { dispatches }) => sum + dispatches, 0),
    step.dispatches,
    'kernels add up',
  );
});

test('webdino bench: usage errors, and --dry-run --json', (t) => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'bench', ...args], {
      cwd: root,
      encoding: 'utf8',
    });
  const unknown = run('gem');
  t.equal(unknown.status, 2);
  t.ok(/gemm, attention, layernorm, loss, adamw, step, features, all/.test(unknown.stderr), unknown.stderr.trim());
  const stray = run('gemm', '--arch', 'vit_base');
  t.ok(stray.status === 2 && /--arch belongs to bench step and bench features/.test(stray.stderr), stray.stderr.trim());
  const json = run('step', '--dry-run', '--json', '--shapes', 'small');
  t.equal(json.status, 0, json.stderr.trim());
  const { adapter, date, rows, peakBytes, kernels } = JSON.parse(json.stdout);
  t.ok(adapter && date && Array.isArray(rows) && peakBytes > 0 && kernels.length > 0, `${adapter}: ${peakBytes} bytes`);
  t.end();
});

test('a calibrated timing says what the fixed product took around it', async (t) => {
  const gpu = await testGpu();
  const calibration = await Calibration.open(gpu);
  const [bench] = sectionOf(1).cases(gpu.capabilities);
  const outcome = await checkedBench(gpu, bench, bench.record(gpu), SECONDS, calibration);
  calibration.close();
  t.ok('calibrationMs' in outcome && outcome.calibrationMs!.before > 0 && outcome.calibrationMs!.after > 0);
});
