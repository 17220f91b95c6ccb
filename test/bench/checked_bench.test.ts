import test from 'tape';
import { type BenchCase, checkedBench, operatorCase, peerBench, type PeerGroup } from '../../bench/checked_bench.js';
import { compare, compareSlope, samplePlaces } from '../../bench/comparison.js';
import { forwardAndBackward } from '../../bench/differentiable.js';
import * as addInPlace from '../../kernels/add_in_place.js';
import * as copyRows from '../../kernels/copy_rows.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { swiglu } from '../../src/tensor/swiglu.js';
import { noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/tokens.js';

const SECONDS = 0.01;

/** swiglu over 5 rows, whose oracle is off by the factor given. */
function swigluCases(factor: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'swiglu',
    shape: '5 × 2 · 8',
    inputs: { x: { shape: [5, 16] } },
    build: (graph, { x }) => swiglu(graph, x),
    oracle: ({ x }) => oracle.swiglu(x, 8).map((v) => factor * v),
  });
}

test('a case whose result is right is timed', async (t) => {
  const gpu = await testGpu();
  for (const bench of swigluCases(1)) {
    const outcome = await checkedBench(gpu, bench, bench.record(gpu), SECONDS);
    if (!('wallMs' in outcome)) {
      t.fail(`${bench.operator}: ${JSON.stringify(outcome)}`);
      continue;
    }
    t.ok(outcome.wallMs > 0 && outcome.samples >= 5, `${bench.operator}: a time from ${outcome.samples} samples`);
    t.ok(outcome.error > 0 && outcome.error < 1e-4, `error ${outcome.error}`);
    t.ok(outcome.flops > 0 && outcome.bytes > 0, 'FLOPs and bytes of one application');
    if (gpu.capabilities.timestampQuery)
      t.ok(outcome.kernels.length > 0 && outcome.gpuMs !== undefined, 'and by kernel');
  }
});

test('a case whose result is wrong gets no number', async (t) => {
  const gpu = await testGpu();
  for (const bench of swigluCases(1.001)) {
    const outcome = await checkedBench(gpu, bench, bench.record(gpu), SECONDS);
    t.ok('refused' in outcome && /forward: error/.test(outcome.refused), JSON.stringify(outcome));
    t.notOk('wallMs' in outcome, 'no time');
  }
});

test('a case whose result changes while it is timed gets no number', async (t) => {
  const gpu = await testGpu();
  const bench = operatorCase('counter', '64', (program) => {
    const store = new ParameterStore(gpu, 'counter', [{ name: 'sum', shape: [64] }]);
    const one = program.input('one', [64]);
    return {
      prepare: () => program.write(one, new Float32Array(64).fill(1)),
      record: () => {
        program.dispatch(addInPlace.plan({ elements: 64 }), [store.get('sum'), one]);
        const copy = program.intermediate('copy', [1, 64]);
        program.dispatch(copyRows.plan({ rows: 1, columns: 64, from: 0, to: 0 }), [store.get('sum'), copy]);
        return [copy];
      },
      check: ([sum], times) => [compare('sum', sum, new Float32Array(64).fill(times))],
      dispose: () => store.dispose(),
    };
  });
  const outcome = await checkedBench(gpu, bench, bench.record(gpu), SECONDS);
  t.ok('refused' in outcome && /changed/.test(outcome.refused), JSON.stringify(outcome));
});

test('a check that compares nothing is no check', async (t) => {
  const gpu = await testGpu();
  const bench = operatorCase('copy', '1 × 64', (program) => {
    const source = program.input('source', [1, 64]);
    return {
      prepare: () => {},
      record: () => {
        const copy = program.intermediate('copy', [1, 64]);
        program.dispatch(copyRows.plan({ rows: 1, columns: 64, from: 0, to: 0 }), [source, copy]);
        return [copy];
      },
      check: () => [],
    };
  });
  const outcome = await checkedBench(gpu, bench, bench.record(gpu), SECONDS);
  t.ok('refused' in outcome && /nothing was compared/.test(outcome.refused), JSON.stringify(outcome));
});

test('compare and compareSlope see what is wrong', (t) => {
  t.equal(compare('same', [1, 2], [1, 2]).error, 0);
  t.equal(compare('shorter', [1], [1, 2]).error, Number.POSITIVE_INFINITY);
  t.equal(compare('not a number', [1, Number.NaN], [1, 2]).error, Number.POSITIVE_INFINITY);
  t.equal(compare('off', [1, 2.5], [1, 2]).error, 0.25);

  const x = Float64Array.from(noise(300, 1));
  const value = (): number => x.reduce((sum, v) => sum + v ** 3, 0);
  const gradient = x.map((v) => 3 * v * v);
  const right = compareSlope('cubes', gradient, x, value);
  t.ok(right.error <= right.bound, `right gradient: ${right.error}`);
  t.deepEqual(x, Float64Array.from(noise(300, 1)), 'the input is as it was');
  const wrongs: Record<string, Float64Array> = {
    'scaled by 1.01': gradient.map((v) => 1.01 * v),
    'one row missing': gradient.map((v, i) => (i >= 40 && i < 50 ? 0 : v)),
    zero: gradient.map(() => 0),
    'not a number': gradient.map((v, i) => (i === 7 ? Number.NaN : v)),
  };
  for (const [what, wrong] of Object.entries(wrongs)) {
    const { error, bound } = compareSlope(what, wrong, x, value);
    t.notOk(error <= bound, `${what}: ${error}`);
  }
  const places = samplePlaces(10_000, 50);
  t.equal(new Set(places).size, 50, 'samples are different places');
  t.ok(places.includes(0) && places.includes(9_999), 'both ends among them');
  t.end();
});

test('a peer is compared before it is timed, and may be absent', async (t) => {
  const group: PeerGroup = {
    operator: 'two',
    shape: '1',
    flops: 1,
    check: (result) => [compare('two', result, [2])],
    peers: [],
  };
  const peer = (name: string, value: number) => ({
    name,
    open: async () => ({ run: async () => {}, result: async () => Float32Array.of(value), close: () => {} }),
  });
  const absent = { name: 'absent', open: () => Promise.reject(new Error('not installed here')) };
  const right = await peerBench(group, peer('right', 2), SECONDS);
  const wrong = await peerBench(group, peer('wrong', 3), SECONDS);
  const missing = await peerBench(group, absent, SECONDS);
  t.ok('medianMs' in right && right.samples >= 5, 'a right one has a time');
  t.ok('missing' in wrong && /wrong result/.test(wrong.missing), JSON.stringify(wrong));
  t.ok('missing' in missing && missing.missing === 'not installed here', JSON.stringify(missing));
});
