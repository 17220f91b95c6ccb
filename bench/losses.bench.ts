/** How fast are the teacher's targets and the losses: Sinkhorn-Knopp, centring, cross-entropy, KoLeo, measurements. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { crossEntropy } from '../src/tensor/cross_entropy.js';
import { Graph } from '../src/tensor/graph.js';
import { koleo } from '../src/tensor/koleo.js';
import { featureDeviation, teacherEntropy } from '../src/tensor/measurements.js';
import { ParameterStore } from '../src/tensor/parameters.js';
import { NO_ROW } from '../src/tensor/rows.js';
import { CENTER_MOMENTUM, sinkhornKnopp, softmaxCenter, updateCenter } from '../src/tensor/teacher_targets.js';
import { noise } from '../test/fixture.js';
import * as crossEntropyOracle from '../test/oracle/cross_entropy.js';
import * as koleoOracle from '../test/oracle/koleo.js';
import * as measurementsOracle from '../test/oracle/measurements.js';
import * as targetsOracle from '../test/oracle/teacher_targets.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';

const TEACHER_TEMPERATURE = 0.07;
const STUDENT_TEMPERATURE = 0.1;

/** Rows of probabilities that differ from each other. */
function probabilities(rows: number, columns: number, seed: number): Float32Array {
  const p = noise(rows * columns, seed).map((v) => v + 1.001);
  for (let from = 0; from < p.length; from += columns) {
    const row = p.subarray(from, from + columns);
    const total = row.reduce((a, b) => a + b, 0);
    for (let k = 0; k < columns; k++) row[k] /= total;
  }
  return p;
}

/** CLS rows of eight local and two global crops a picture against the teacher's two rows of that picture. */
function crossEntropyCases(batch: number, columns: number): BenchCase[] {
  const [locals, globals] = [8 * batch, 2 * batch];
  const rows = locals + globals;
  const pairs = Uint32Array.from({ length: 2 * rows }, (_, i) => {
    const [row, second] = [i >> 1, i & 1];
    if (row < locals) return (row % batch) + second * batch;
    return second === 0 ? (row - locals + batch) % globals : NO_ROW;
  });
  const weights = new Float32Array(rows).fill(1 / (batch * 18));
  let targets: Float32Array = new Float32Array();
  return forwardAndBackward({
    operator: 'cross_entropy',
    shape: `${rows} rows, ${columns} prototypes`,
    inputs: {
      student: { shape: [rows, columns] },
      targets: {
        shape: [globals, columns],
        constant: true,
        data: () => {
          targets = probabilities(globals, columns, 2);
          return targets;
        },
      },
    },
    tables: { pairs: { shape: [rows, 2], data: pairs }, weights: { shape: [rows], data: weights } },
    build: (graph, { student, targets: teacher, pairs: rowsOf, weights: counts }) =>
      crossEntropy(graph, {
        student,
        targets: teacher,
        pairs: rowsOf,
        weights: counts,
        temperature: STUDENT_TEMPERATURE,
        terms: [
          { name: 'local crops', rows: locals },
          { name: 'global crops', rows: globals },
        ],
      }),
    oracle: ({ student }) =>
      crossEntropyOracle.crossEntropy({
        student,
        targets,
        columns,
        pairs,
        weights,
        temperature: STUDENT_TEMPERATURE,
        termRows: [locals, globals],
      }),
  });
}

function sinkhornCase(rows: number, columns: number): BenchCase {
  return operatorCase('sinkhorn, 3 iterations', `${rows} rows, ${columns} prototypes`, (program) => {
    const logits = program.input('logits', [rows, columns]);
    const temperature = program.input('temperature', [1]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(logits.elements, 1);
        program.write(logits, data);
        program.write(temperature, Float32Array.of(TEACHER_TEMPERATURE));
      },
      record: () => {
        const into = program.intermediate('targets', [rows, columns]);
        sinkhornKnopp(new Graph(program), { logits, rowStart: 0, rows, temperature, into });
        return [into];
      },
      check: ([targets]) => [
        compare('targets', targets, targetsOracle.sinkhornKnopp(data, columns, Math.fround(TEACHER_TEMPERATURE)), 1e-4),
      ],
    };
  });
}

function centringCase(rows: number, columns: number): BenchCase {
  return operatorCase('softmax_center, then center_update', `${rows} rows, ${columns} prototypes`, (program) => {
    const logits = program.input('logits', [rows, columns]);
    const temperature = program.input('temperature', [1]);
    const store = new ParameterStore(program.gpu, 'centers', [{ name: 'center', shape: [columns] }]);
    const center = store.get('center');
    let data: Float32Array = new Float32Array();
    return {
      inPlace: true,
      prepare: async () => {
        data = noise(logits.elements, 1);
        program.write(logits, data);
        program.write(temperature, Float32Array.of(TEACHER_TEMPERATURE));
        await store.write('center', noise(columns, 2));
      },
      record: () => {
        const graph = new Graph(program);
        const into = program.intermediate('targets', [rows, columns]);
        softmaxCenter(graph, { logits, rowStart: 0, rows, temperature, into, center });
        updateCenter(graph, { logits, rowStart: 0, rows, center, momentum: CENTER_MOMENTUM });
        return [into, center];
      },
      check: ([targets, after], times) => {
        let exact = Float64Array.from(noise(columns, 2));
        for (let i = 1; i < times; i++)
          exact = Float64Array.from(targetsOracle.updateCenter(data, exact, CENTER_MOMENTUM));
        return [
          compare('targets', targets, targetsOracle.softmaxCenter(data, exact, Math.fround(TEACHER_TEMPERATURE)), 1e-4),
          compare('center', after, targetsOracle.updateCenter(data, exact, CENTER_MOMENTUM)),
        ];
      },
      dispose: () => store.dispose(),
    };
  });
}

function koleoCases(rowsPerGroup: number, columns: number): BenchCase[] {
  const groups = 2;
  return forwardAndBackward({
    operator: 'koleo',
    shape: `${groups} × ${rowsPerGroup} × ${columns}`,
    inputs: { x: { shape: [groups * rowsPerGroup, columns] } },
    build: (graph, { x }) => koleo(graph, x, { rowStart: 0, groups, rowsPerGroup }),
    oracle: ({ x }) => [koleoOracle.koleo(x, columns, { rowStart: 0, groups, rowsPerGroup })],
  });
}

function entropyCase(rows: number, columns: number): BenchCase {
  return operatorCase('target_entropy', `${rows} rows, ${columns} prototypes`, (program) => {
    const targets = program.input('targets', [rows, columns]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = probabilities(rows, columns, 3);
        program.write(targets, data);
      },
      record: () => [teacherEntropy(new Graph(program), targets, 0, rows)],
      check: ([entropy]) => [compare('entropy', entropy, [measurementsOracle.entropy(data, columns)])],
    };
  });
}

function deviationCase(rows: number, columns: number): BenchCase {
  return operatorCase('column_deviation of unit rows', `${rows} × ${columns}`, (program) => {
    const x = program.input('x', [rows, columns]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(x.elements, 1);
        program.write(x, data);
      },
      record: () => [featureDeviation(new Graph(program), x, 0, rows)],
      check: ([deviation]) => [compare('deviation', deviation, [measurementsOracle.featureDeviation(data, columns)])],
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const [batch, prototypes] = software ? [4, 4096] : [32, 65536];
  return [
    sinkhornCase(16 * batch, prototypes),
    sinkhornCase(50, 257),
    centringCase(16 * batch, prototypes),
    centringCase(50, 261),
    ...crossEntropyCases(batch, prototypes),
    ...crossEntropyCases(3, 257),
    ...koleoCases(software ? 32 : 64, 384),
    ...koleoCases(17, 50),
    entropyCase(2 * batch, prototypes),
    deviationCase(2 * batch, 384),
  ];
}

export const section: BenchSection = { name: 'losses', question: 'How fast are targets and losses?', cases };
