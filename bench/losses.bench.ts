/** How fast are the teacher's targets and the losses: Sinkhorn-Knopp, centring, cross-entropy, KoLeo, measurements. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { crossEntropyTile } from '../src/tensor/cross_entropy.js';
import { Graph } from '../src/tensor/graph.js';
import { koleo } from '../src/tensor/koleo.js';
import { featureDeviation, teacherEntropy } from '../src/tensor/measurements.js';
import { ParameterStore } from '../src/tensor/parameters.js';
import { givenLogits } from '../src/tensor/prototype_logits.js';
import { prototypeLoss } from '../src/tensor/prototype_loss.js';
import { CENTER_MOMENTUM, sinkhornKnopp, softmaxCenter, wholeTargets } from '../src/tensor/teacher_targets.js';
import { noise } from '../test/fixture.js';
import * as crossEntropyOracle from '../test/oracle/cross_entropy.js';
import * as koleoOracle from '../test/oracle/koleo.js';
import * as measurementsOracle from '../test/oracle/measurements.js';
import * as targetsOracle from '../test/oracle/teacher_targets.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';
import { STORAGES, type Stored, storedNoise } from './storages.js';

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

/** Row r of the student is compared with target row r mod T. */
function targetOfRows(targets: Float32Array, columns: number, rows: number): Float32Array {
  const targetRows = targets.length / columns;
  const all = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const from = (r % targetRows) * columns;
    all.set(targets.subarray(from, from + columns), r * columns);
  }
  return all;
}

/** One tile: losses, and the gradient in the same visit. */
function crossEntropyCase(
  rows: number,
  targetRows: number,
  columns: number,
  { storage, mark, bound }: Stored,
): BenchCase {
  const shape = `${rows} rows, ${targetRows} targets, ${columns} prototypes`;
  return operatorCase(`cross_entropy and gradient${mark}`, shape, (program) => {
    const logits = program.input('logits', [rows, columns]);
    const targets = program.input('targets', [targetRows, columns]);
    const weights = program.constant('weights', [rows], new Float32Array(rows).fill(1 / rows));
    const upstream = program.constant('upstream', [1], Float32Array.of(1000));
    let exact: crossEntropyOracle.CrossEntropyCase;
    return {
      prepare: () => {
        const [student, teacher] = [noise(logits.elements, 1), probabilities(targetRows, columns, 2)];
        program.write(logits, student);
        program.write(targets, teacher);
        exact = {
          student,
          columns,
          targets: targetOfRows(teacher, columns, rows),
          weights: new Float32Array(rows).fill(1 / rows),
          temperature: STUDENT_TEMPERATURE,
        };
      },
      record: () => {
        const loss = program.intermediate('loss', [rows]);
        const into = program.intermediate('d_logits', [rows, columns], storage);
        const gradient = { upstream, term: 0, into };
        const temperature = STUDENT_TEMPERATURE;
        crossEntropyTile(program, { logits, targets, weights, before: 0, temperature, loss, gradient });
        return [loss, into];
      },
      check: ([loss, gradient]) => {
        const slope = crossEntropyOracle.crossEntropyGradient(exact).map((value) => 1000 * value);
        return [
          compare('losses', loss, crossEntropyOracle.crossEntropyRows(exact)),
          compare('gradient', gradient, slope, Math.max(bound, 1e-4)),
        ];
      },
    };
  });
}

/** From unit rows to the loss and the gradients of rows and prototypes, in four tiles. */
function prototypeLossCases(rows: number, columns: number, width: number): BenchCase[] {
  const targetRows = rows / 4;
  const weights = new Float32Array(rows).fill(1 / rows);
  let targets: Float32Array = new Float32Array();
  const unit = (count: number, seed: number) => (): Float32Array =>
    noise(count * width, seed).map((value) => value / Math.sqrt(width / 3));
  return forwardAndBackward({
    operator: 'prototype_loss',
    shape: `${rows} rows × ${width}, ${columns} prototypes`,
    inputs: {
      features: { shape: [rows, width], data: unit(rows, 1) },
      weight: { shape: [columns, width], data: unit(columns, 2), weight: true },
    },
    tables: {
      targets: { shape: [targetRows, columns], data: probabilities(targetRows, columns, 3) },
      weights: { shape: [rows], data: weights },
    },
    half: true,
    build: (graph, { features, weight, targets: matrix, weights: counts }, upstream) =>
      prototypeLoss(graph, {
        features,
        weight,
        weights: counts,
        terms: [{ name: 'rows', rows, targets: { matrix, shift: 0 } }],
        temperature: STUDENT_TEMPERATURE,
        upstream: upstream([1]),
        tileBytes: rows * columns,
      }),
    oracle: ({ features, weight }) => {
      if (targets.length === 0) targets = targetOfRows(probabilities(targetRows, columns, 3), columns, rows);
      const temperature = STUDENT_TEMPERATURE;
      return crossEntropyOracle.prototypeLoss({
        features,
        weight,
        width,
        columns,
        targets,
        weights,
        temperature,
        termRows: [rows],
      });
    },
  });
}

function sinkhornCase(rows: number, columns: number, tileRows = rows): BenchCase {
  const shape = `${rows} rows in tiles of ${tileRows}, ${columns} prototypes`;
  return operatorCase('sinkhorn, 3 iterations', shape, (program) => {
    const logits = program.input('logits', [rows, columns]);
    const temperature = program.input('temperature', [1]);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = noise(logits.elements, 1);
        program.write(logits, data);
        program.write(temperature, Float32Array.of(TEACHER_TEMPERATURE));
      },
      record: () => [
        wholeTargets(program, sinkhornKnopp(program, { logits: givenLogits(program, logits, tileRows), temperature })),
      ],
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
        const given = givenLogits(program, logits);
        const options = { logits: given, temperature, center, momentum: CENTER_MOMENTUM };
        return [wholeTargets(program, softmaxCenter(program, options)), center];
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
    half: true,
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
      record: () => [teacherEntropy(new Graph(program), targets)],
      check: ([entropy]) => [compare('entropy', entropy, [measurementsOracle.entropy(data, columns)])],
    };
  });
}

function deviationCase(rows: number, columns: number, { storage, mark, bound }: Stored): BenchCase {
  return operatorCase(`column_deviation of unit rows${mark}`, `${rows} × ${columns}`, (program) => {
    const x = program.input('x', [rows, columns], storage);
    let data: Float32Array = new Float32Array();
    return {
      prepare: () => {
        data = storedNoise(x.elements, 1, storage);
        program.write(x, data);
      },
      record: () => [featureDeviation(new Graph(program, storage), x, 0, rows)],
      check: ([deviation]) => [
        compare('deviation', deviation, [measurementsOracle.featureDeviation(data, columns)], bound),
      ],
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const [batch, prototypes] = software ? [4, 4096] : [32, 65536];
  return [
    sinkhornCase(16 * batch, prototypes),
    sinkhornCase(50, 257, 16),
    centringCase(16 * batch, prototypes),
    centringCase(50, 261),
    ...STORAGES.map((stored) => crossEntropyCase(8 * batch, batch, prototypes, stored)),
    crossEntropyCase(3, 2, 260, STORAGES[0]),
    ...(software ? prototypeLossCases(48, 1024, 32) : prototypeLossCases(512, 8192, 64)),
    ...koleoCases(software ? 32 : 64, 384),
    ...koleoCases(17, 52),
    entropyCase(2 * batch, prototypes),
    ...STORAGES.map((stored) => deviationCase(2 * batch, 384, stored)),
  ];
}

export const section: BenchSection = { name: 'losses', question: 'How fast are targets and losses?', cases };
