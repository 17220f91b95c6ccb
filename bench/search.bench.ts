/** How fast are search and the logistic solver: nearest rows by tiles, grouped cross-entropy, steps of L-BFGS. */

import * as crossEntropy from '../kernels/grouped_cross_entropy.js';
import * as lbfgsSlope from '../kernels/lbfgs_slope.js';
import { ACTIONS, HISTORY, plan as planStep, STATE_VALUES } from '../kernels/lbfgs_step.js';
import * as topKTile from '../kernels/top_k_tile.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { Tensor } from '../src/gpu/tensor.js';
import { noise } from '../test/fixture.js';
import { groupedCrossEntropy } from '../test/oracle/grouped_cross_entropy.js';
import { lbfgsDirection, type Pair } from '../test/oracle/lbfgs.js';
import { bestOf } from '../test/oracle/top_k.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare, compareExactly, samplePlaces } from './comparison.js';

/** Twenty dot products in float32, one after the other. */
const DIRECTION_BOUND = 2e-4;

/** A tile into empty lists: the most candidates that a tile can have. Later tiles mostly compare and pass on. */
function topKCase(queries: number, columns: number, k: number): BenchCase {
  return operatorCase('top_k_tile', `${queries} queries × ${columns} rows, k ${k}`, (program) => {
    const similarities = program.input('similarities', [queries, columns]);
    const tile = program.constant('tile', [2], Uint32Array.of(0, columns));
    return {
      prepare: () => program.write(similarities, noise(queries * columns, 1)),
      record: () => {
        const values = program.intermediate('values', [queries, k]);
        const rows = program.intermediate('rows', [queries, k], 'u32');
        program.dispatch(topKTile.plan({ queries, columns, k }), [similarities, tile, values, rows]);
        return [values, rows];
      },
      check: ([, rows]) => {
        const all = noise(queries * columns, 1);
        const places = samplePlaces(queries, 5);
        const expected = places.flatMap((q) => bestOf(all.subarray(q * columns, (q + 1) * columns), k));
        const found = places.flatMap((q) => [...rows.subarray(q * k, (q + 1) * k)]);
        return [compareExactly('rows', found, expected)];
      },
    };
  });
}

function crossEntropyCase(rows: number, groups: number, classes: number): BenchCase {
  return operatorCase('grouped_cross_entropy', `${rows} rows, ${groups} classifiers of ${classes}`, (program) => {
    const pitch = crossEntropy.logitColumns({ groups, classes });
    const logits = program.input('logits', [rows, pitch]);
    const labels = Uint32Array.from({ length: rows }, (_, r) => (r * 7) % classes);
    const table = program.constant('labels', [rows], labels);
    const values = (): Float32Array => noise(rows * pitch, 1).map((value) => 9 * value);
    return {
      prepare: () => program.write(logits, values()),
      record: () => {
        const losses = program.intermediate('losses', [rows, crossEntropy.lossColumns({ groups })]);
        const plan = crossEntropy.plan({ rows, groups, classes, scale: 1 }, program.gpu.capabilities);
        program.dispatch(plan, [logits, table, losses]);
        return [losses, logits];
      },
      check: ([losses, gradient], times) => {
        // The gradient takes the logits' place, and is what the next application sees.
        let seen: ArrayLike<number> = values();
        let exact = groupedCrossEntropy({ logits: seen, labels, groups, classes, pitch });
        for (let i = 1; i < times; i++) {
          seen = exact.gradient;
          exact = groupedCrossEntropy({ logits: seen, labels, groups, classes, pitch });
        }
        const width = losses.length / rows;
        const found = Array.from(
          { length: rows * groups },
          (_, i) => losses[Math.floor(i / groups) * width + (i % groups)],
        );
        const inside = (all: ArrayLike<number>): number[] =>
          Array.from(all, (value, i) => (i % pitch < groups * classes ? value : 0));
        return [compare('losses', found, exact.losses), compare('gradient', inside(gradient), inside(exact.gradient))];
      },
      inPlace: true,
    };
  });
}

/** A new direction from ten pairs that are there, the trial point, and the slopes at it. */
function lbfgsCase(problems: number, variables: number): BenchCase {
  return operatorCase('lbfgs_step and slope', `${problems} problems × ${variables}`, (program) => {
    const gradientAt = problems * variables;
    const size = { problems, variables, gradientAt };
    const { gpu } = program;
    // Each in a buffer of its own: what is written may not share one with what is read.
    const vectors: Tensor[] = [];
    const vector = (name: string, shape: readonly number[]): Tensor => {
      const tensor = new Tensor(name, shape, 'f32', 'persistent');
      tensor.placement = { buffer: gpu.storageBuffer(tensor.sizeBytes, name), offsetBytes: 0 };
      vectors.push(tensor);
      return tensor;
    };
    const write = (tensor: Tensor, values: Float32Array): void =>
      gpu.device.queue.writeBuffer(tensor.place().buffer, 0, values.buffer as ArrayBuffer);
    const [trial, point] = [vector('trial', [2, gradientAt]), vector('point', [2, gradientAt])];
    const [s, y] = ['s', 'y'].map((name) => vector(name, [HISTORY, problems, variables]));
    const [d, sums] = [vector('direction', [problems, variables]), vector('sums', [problems, variables])];
    const state = vector('state', [problems, STATE_VALUES]);
    const rate = new Uint32Array(Float32Array.of(0.5).buffer)[0];
    const words = [ACTIONS.restart, HISTORY, HISTORY - 1, rate];
    const control = program.constant(
      'control',
      [problems, 4],
      Uint32Array.from({ length: 4 * problems }, (_, i) => words[i % 4]),
    );
    const strength = program.constant('strength', [problems], new Float32Array(problems));
    const start = (): Float32Array => noise(2 * gradientAt, 1);
    const pairOf = (problem: number, slot: number): Pair => {
      const change = noise(variables, 10 + slot + HISTORY * problem);
      return { s: change, y: change.map((value, i) => (1 + (i % 7)) * value) };
    };
    const products = ({ s: change, y: turn }: Pair): [number, number] => {
      let [along, square] = [0, 0];
      for (let i = 0; i < variables; i++) {
        along += change[i] * turn[i];
        square += turn[i] * turn[i];
      }
      return [along, square];
    };
    return {
      prepare: () => {
        const history = { s: new Float32Array(s.elements), y: new Float32Array(y.elements) };
        const states = new Float32Array(state.elements);
        for (let problem = 0; problem < problems; problem++) {
          for (let slot = 0; slot < HISTORY; slot++) {
            const pair = pairOf(problem, slot);
            history.s.set(pair.s, (slot * problems + problem) * variables);
            history.y.set(pair.y, (slot * problems + problem) * variables);
            const [along, square] = products(pair);
            states[problem * STATE_VALUES + slot] = 1 / along;
            states[problem * STATE_VALUES + HISTORY] = along / square;
          }
        }
        write(point, start());
        write(s, history.s);
        write(y, history.y);
        write(state, states);
        write(sums, noise(sums.elements, 2));
      },
      record: () => {
        const { capabilities } = program.gpu;
        const results = program.intermediate('results', [problems, 4]);
        program.dispatch(planStep(size, capabilities), [trial, point, s, y, d, state, control]);
        const plan = lbfgsSlope.plan({ ...size, rowVariables: variables, penalised: variables }, capabilities);
        program.dispatch(plan, [sums, d, strength, trial, results]);
        return [d, results];
      },
      check: ([direction, results]) => {
        const gradients = start().subarray(gradientAt);
        const there = noise(sums.elements, 2);
        const last = problems - 1;
        const range = [last * variables, (last + 1) * variables] as const;
        const pairs = Array.from({ length: HISTORY }, (_, slot) => pairOf(last, slot));
        const expected = lbfgsDirection(gradients.subarray(...range), pairs);
        const slope = there.subarray(...range).reduce((sum, value, i) => sum + value * expected[i], 0);
        const scale = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) * variables);
        return [
          compare('direction', direction.subarray(...range), expected, DIRECTION_BOUND),
          compare('slope', [results[4 * last + 1] / scale, 1], [slope / scale, 1], DIRECTION_BOUND),
        ];
      },
      dispose: () => {
        for (const tensor of vectors) gpu.destroyBuffer(tensor.place().buffer);
      },
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const topK: [number, number, number][] = software
    ? [
        [64, 1024, 20],
        [64, 1024, 200],
      ]
    : [
        [1024, 8192, 20],
        [1024, 8192, 200],
      ];
  return [
    ...topK.map((size) => topKCase(...size)),
    software ? crossEntropyCase(500, 45, 10) : crossEntropyCase(4096, 45, 10),
    software ? crossEntropyCase(200, 2, 100) : crossEntropyCase(4096, 2, 1000),
    software ? lbfgsCase(45, 1960) : lbfgsCase(45, 3880),
  ];
}

export const section: BenchSection = {
  name: 'search',
  question: 'How fast are exact search and the logistic solver?',
  cases,
};
