import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { classPitch, labelCrossEntropy, NO_LABEL } from '../../src/tensor/label_cross_entropy.js';
import { allClose, checkOperator, noise, plannedAsHardware, testGpu } from '../fixture.js';
import * as oracle from '../oracle/probes.js';

const labelsFor = (samples: number, classes: number): Uint32Array =>
  Uint32Array.from({ length: samples }, (_, i) => (7 * i + 3) % classes);

for (const [samples, heads, classes, smoothing] of [
  [1, 1, 2, 0],
  [50, 3, 7, 0.1],
  [17, 2, 261, 0],
  [3, 1, 1000, 0.1],
] as const) {
  const name = `label_cross_entropy ${samples} samples, ${heads} heads, ${classes} classes, smoothing ${smoothing}`;
  test(name, async (t) => {
    const pitch = classPitch(classes);
    const labels = labelsFor(samples, classes);
    const sizes = { classes, pitch, heads, smoothing };
    await checkOperator(t, {
      hardwareToo: true,
      name,
      inputs: {
        logits: { shape: [samples, heads * pitch], data: noise(samples * heads * pitch, 1).map((v) => 6 * v) },
      },
      build: (graph, { logits }, upstream) => {
        const given = graph.program.constant('labels', [samples], labels);
        return labelCrossEntropy(graph, { logits, labels: given, ...sizes, upstream: upstream() }).loss;
      },
      oracle: ({ logits }) => oracle.labelCrossEntropy(logits, labels, sizes).loss,
      half: { gradient: { absolute: 2e-3, relative: 2e-3 } },
    });
  });
}

/** Loss, rank and gradient of given logits, planned for software and as for hardware. */
async function lossesOf(logits: Float32Array, labels: Uint32Array, classes: number) {
  const gpu = await testGpu();
  const results: { loss: Float32Array; rank: Uint32Array; gradient: Float32Array }[] = [];
  for (const planned of [gpu, plannedAsHardware(gpu)]) {
    const program = new Program(planned, 'label losses');
    const graph = new Graph(program);
    const x = program.input('logits', [labels.length, logits.length / labels.length]);
    const y = program.input('labels', [labels.length], 'u32');
    const upstream = program.constant('upstream', [labels.length], new Float32Array(labels.length).fill(1));
    const { loss, rank, gradient } = labelCrossEntropy(graph, { logits: x, labels: y, classes, upstream });
    for (const tensor of [loss, rank, gradient!]) program.keep(tensor);
    await program.compile({ guard: true });
    program.write(x, logits);
    program.write(y, labels);
    program.run();
    const [a, b, c] = await program.readAll([loss, rank, gradient!]);
    results.push({ loss: a as Float32Array, rank: b as Uint32Array, gradient: c as Float32Array });
    program.dispose();
  }
  return results;
}

test('label_cross_entropy: ranks, and of equal scores the lower class is ahead', async (t) => {
  const [classes, samples] = [37, 40];
  const pitch = classPitch(classes);
  // Few different values, so that many are equal.
  const logits = noise(samples * pitch, 5).map((v) => Math.round(3 * v));
  const labels = labelsFor(samples, classes);
  const expected = oracle.labelCrossEntropy(logits, labels, { classes, pitch });
  for (const { loss, rank, gradient } of await lossesOf(logits, labels, classes)) {
    t.deepEqual([...rank], [...expected.rank], 'the ranks');
    allClose(t, loss, expected.loss, 'the losses');
    allClose(t, gradient, expected.gradient, 'the gradient');
    t.ok(
      gradient.every((d, i) => i % pitch < classes || d === 0),
      'places past the classes have no gradient',
    );
  }
});

test('label_cross_entropy: no label, labels out of range, and logits that are not finite', async (t) => {
  const [classes, pitch] = [6, 8];
  const logits = noise(5 * pitch, 3);
  logits[2 * pitch + 1] = Number.NaN;
  logits[3 * pitch + 5] = Number.POSITIVE_INFINITY;
  // A place past the classes may hold anything.
  logits[4 * pitch + 7] = Number.NaN;
  const labels = Uint32Array.of(NO_LABEL, classes, 1, 2, 3);
  for (const { loss, rank, gradient } of await lossesOf(logits, labels, classes)) {
    t.deepEqual([...loss.subarray(0, 2)], [0, 0], 'a label that is none costs nothing');
    t.ok(
      gradient.subarray(0, 2 * pitch).every((d) => d === 0),
      'and pulls nowhere',
    );
    t.deepEqual(
      [...rank.subarray(0, 4)],
      [classes, classes, classes, classes],
      'and is never a hit, nor is a broken row',
    );
    t.ok(!Number.isFinite(loss[2]) && !Number.isFinite(loss[3]), 'logits that are not finite have no finite loss');
    t.ok(!Number.isFinite(gradient[2 * pitch]) && !Number.isFinite(gradient[3 * pitch]), 'nor gradient');
    t.ok(Number.isFinite(loss[4]) && rank[4] < classes, 'places past the classes do not count');
  }
});

test('label_cross_entropy refuses what does not fit', async (t) => {
  const program = new Program(await testGpu(), 'refused');
  const graph = new Graph(program);
  const logits = program.input('logits', [4, 12]);
  const labels = program.input('labels', [4], 'u32');
  t.throws(
    () => labelCrossEntropy(graph, { logits, labels, classes: 13 }),
    /logits \[4,12\] must hold 4 samples of 1 heads of 16 logits/,
  );
  const upstream = program.input('upstream', [3]);
  t.throws(
    () => labelCrossEntropy(graph, { logits, labels, classes: 10, upstream }),
    /one number for each of 4 losses/,
  );
  logits.requiresGrad = true;
  t.throws(() => labelCrossEntropy(graph, { logits, labels, classes: 10 }), /give upstream/);
  program.dispose();
});
