import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { binCentres, depthBins } from '../../src/tensor/depth_bins.js';
import { gradientLoss, sigLoss } from '../../src/tensor/depth_losses.js';
import { Graph } from '../../src/tensor/graph.js';
import { pixelCrossEntropy } from '../../src/tensor/pixel_cross_entropy.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/dense_losses.js';

/** A loss of one tensor and its gradient under an upstream gradient of 2. */
async function lossAndGradient(
  data: Float32Array,
  shape: readonly number[],
  build: (graph: Graph, x: Tensor) => Tensor,
): Promise<{ loss: number; gradient: Float32Array }> {
  const program = new Program(await testGpu(), 'loss');
  const graph = new Graph(program);
  const x = program.input('x', shape);
  x.requiresGrad = true;
  const loss = program.keep(build(graph, x));
  graph.backward([[loss, program.constant('seed', [1], Float32Array.of(2))]]);
  const gradient = program.keep(graph.gradientOf(x)!);
  await program.compile({ guard: true });
  program.write(x, data);
  program.run();
  const [value, slopes] = await program.readAll([loss, gradient]);
  program.dispose();
  return { loss: value[0], gradient: slopes as Float32Array };
}

const LABELS = (rows: number, classes: number): Uint32Array =>
  Uint32Array.from({ length: rows }, (_, r) => (r % 5 === 3 ? 255 : (r * 7) % classes));

for (const [rows, classes] of [
  [1, 2],
  [50, 21],
  [261, 19],
  [2500, 3],
  [9, 150],
  [5, 300],
]) {
  test(`label cross-entropy ${rows} x ${classes}`, async (t) => {
    const labels = LABELS(rows, classes);
    await checkOperator(t, {
      hardwareToo: true,
      name: `pixel_cross_entropy ${rows}x${classes}`,
      inputs: { logits: { shape: [rows, classes], data: noise(rows * classes, 1).map((v) => 4 * v) } },
      build: (graph, { logits }) => pixelCrossEntropy(graph, logits, graph.program.constant('labels', [rows], labels)),
      oracle: ({ logits }) => [oracle.pixelCrossEntropy(logits, labels)],
    });
  });
}

test('label cross-entropy: logits far from 0, labels that are no class, and nothing that counts', async (t) => {
  const run = (logits: Float32Array, labels: number[]): ReturnType<typeof lossAndGradient> =>
    lossAndGradient(logits, [labels.length, logits.length / labels.length], (graph, x) =>
      pixelCrossEntropy(graph, x, graph.program.constant('labels', [labels.length], Uint32Array.from(labels))),
    );
  const far = Float32Array.of(1000, 1001, -1000, -1e4, 5, 3e4);
  const { loss, gradient } = await run(far, [1, 2]);
  t.ok(Math.abs(loss - oracle.pixelCrossEntropy(far, [1, 2])) < 1e-5, `${loss} of far logits`);
  t.ok(gradient.every(Number.isFinite), 'finite gradients');
  for (const [what, labels] of [
    ['all ignored', [255, 255]],
    ['no such class', [3, 77]],
  ] as const) {
    const none = await run(far, [...labels]);
    t.equal(none.loss, 0, `${what}: the loss is 0`);
    t.ok(
      none.gradient.every((v) => v === 0),
      `${what}: so are the gradients`,
    );
  }
});

test('depth bins, golden numbers of the specification', async (t) => {
  const depth = oracle.depthBins([-1, 0.5, 2, 0], 4, 0.001, 10);
  t.ok(Math.abs(depth[0] - 5.862483) < 1e-6, `the oracle gives ${depth[0]}`);
  t.deepEqual([...binCentres(3, { min: 0, max: 10 })], [0, 5, 10], 'bins from end to end');
  t.throws(() => binCentres(1, { min: 0, max: 10 }), /at least 2 bins/);
  t.throws(() => binCentres(256, { min: 10, max: 10 }), /a maximum above the minimum/);
});

for (const [rows, bins] of [
  [1, 4],
  [50, 256],
  [261, 7],
]) {
  test(`depth bins ${rows} x ${bins}`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: `depth_bins ${rows}x${bins}`,
      inputs: { logits: { shape: [rows, bins], data: noise(rows * bins, 1) } },
      build: (graph, { logits }) => depthBins(graph, logits, { min: 0.001, max: 10 }),
      oracle: ({ logits }) => oracle.depthBins(logits, bins, 0.001, 10),
    });
  });
}

/** Depths of 0 and beyond every maximum among them, an infinite one too. */
function depths(rows: number): Float32Array {
  return noise(rows, 8).map((v, i) => (i % 7 === 5 ? 0 : i % 11 === 8 ? 100 : i % 13 === 9 ? Infinity : 4 + 3 * v));
}

test('scale-invariant loss, golden numbers of the specification', (t) => {
  const [prediction, truth] = [
    [1, 2, 4, 8],
    [1.1, 1.8, 0, 9],
  ];
  t.ok(Math.abs(oracle.sigLoss(prediction, truth, false) - 0.123585) < 1e-6, 'with its variance');
  t.ok(Math.abs(oracle.sigLoss(prediction, truth, true) - 0.013902) < 1e-6, 'while it warms up');
  t.end();
});

for (const rows of [3, 261, 2500]) {
  for (const warmUp of [false, true]) {
    for (const maxDepth of [undefined, 10]) {
      const name = `sig_loss ${rows}${warmUp ? ', warm-up' : ''}${maxDepth ? `, up to ${maxDepth}` : ''}`;
      test(name, async (t) => {
        const truth = depths(rows);
        await checkOperator(t, {
          name,
          inputs: { prediction: { shape: [rows, 1], data: noise(rows, 1).map((v) => 3 + 2 * v) } },
          build: (graph, { prediction }) => {
            const { program } = graph;
            const flag = program.constant('warm up', [1], Uint32Array.of(warmUp ? 1 : 0));
            return sigLoss(graph, prediction, program.constant('truth', [rows], truth), flag, { maxDepth });
          },
          oracle: ({ prediction }) => [oracle.sigLoss(prediction, truth, warmUp, maxDepth)],
        });
      });
    }
  }
}

for (const [pictures, height, width] of [
  [1, 1, 1],
  [2, 15, 17],
  [1, 40, 33],
]) {
  for (const maxDepth of [undefined, 10]) {
    const name = `gradient_loss ${pictures} x ${height} x ${width}${maxDepth ? `, up to ${maxDepth}` : ''}`;
    test(name, async (t) => {
      const size = { pictures, height, width };
      const rows = pictures * height * width;
      const truth = depths(rows);
      await checkOperator(t, {
        name,
        inputs: { prediction: { shape: [rows, 1], data: noise(rows, 1).map((v) => 3 + 2 * v) } },
        build: (graph, { prediction }) =>
          gradientLoss(graph, { values: prediction, ...size }, graph.program.constant('truth', [rows], truth), {
            maxDepth,
          }),
        oracle: ({ prediction }) => [oracle.gradientLoss(prediction, truth, size, maxDepth)],
      });
    });
  }
}

test('depth losses where nothing, one pixel, or everything is right', async (t) => {
  const [height, width] = [5, 6];
  const rows = height * width;
  const losses = (prediction: Float32Array, truth: Float32Array, warmUp: number) => ({
    sig: lossAndGradient(prediction, [rows, 1], (graph, x) => {
      const { program } = graph;
      const flag = program.constant('warm up', [1], Uint32Array.of(warmUp));
      return sigLoss(graph, x, program.constant('truth', [rows], truth), flag, { maxDepth: 10 });
    }),
    gradient: lossAndGradient(prediction, [rows, 1], (graph, x) =>
      gradientLoss(graph, { values: x, pictures: 1, height, width }, graph.program.constant('truth', [rows], truth), {
        maxDepth: 10,
      }),
    ),
  });
  const prediction = noise(rows, 3).map((v) => 2 + v);
  const zero = async (what: string, given: Float32Array, truth: Float32Array): Promise<void> => {
    for (const warmUp of [0, 1]) {
      for (const [name, result] of Object.entries(losses(given, truth, warmUp))) {
        const { loss, gradient } = await result;
        t.equal(loss, 0, `${what}: the ${name} loss is 0`);
        t.ok(
          gradient.every((v) => v === 0),
          `${what}: so are the gradients`,
        );
      }
    }
  };
  await zero('no depth anywhere', prediction, new Float32Array(rows));
  await zero('infinite depth', prediction, new Float32Array(rows).fill(Infinity));
  await zero('not a number', prediction, new Float32Array(rows).fill(Number.NaN));
  await zero('negative depth', prediction, new Float32Array(rows).fill(-1));
  await zero('beyond the maximum', prediction, new Float32Array(rows).fill(10.5));
  await zero('all right', prediction, prediction);
  const lone = new Float32Array(rows);
  lone[7] = 3;
  const { loss, gradient } = await losses(prediction, lone, 0).sig;
  t.ok(Math.abs(loss - oracle.sigLoss(prediction, lone, false)) < 1e-5, `one pixel: ${loss}, without a variance`);
  t.ok(
    gradient.every((v, i) => (i === 7 ? v !== 0 : v === 0)),
    'and a gradient for it alone',
  );
  const below = prediction.map((v, i) => (i % 2 ? -v : v));
  const truth = new Float32Array(rows).fill(2);
  for (const [name, result] of Object.entries(losses(below, truth, 0))) {
    const negative = await result;
    t.ok(Number.isFinite(negative.loss), `${name}: predictions below 0 have a loss, ${negative.loss}`);
    t.ok(
      negative.gradient.every((v, i) => (i % 2 ? v === 0 : Number.isFinite(v))),
      'and no gradient',
    );
  }
  allClose(t, [(await losses(below, truth, 0).sig).loss], [oracle.sigLoss(below, truth, false)], 'they count as 0');
});
