import { readFileSync } from 'node:fs';
import test from 'tape';
import { BASE_RATES, headGrid, type LinearHead, LinearHeads } from '../../src/eval/linear_heads.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { classPitch, labelCrossEntropy } from '../../src/tensor/label_cross_entropy.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';

interface Parameters {
  readonly weight: number[];
  readonly bias: number[];
}

interface Fixture {
  readonly classes: number;
  readonly dim: number;
  readonly batch: number;
  readonly steps: number;
  readonly features: number[];
  readonly labels: number[];
  readonly order: number[][];
  readonly heads: {
    readonly kind: string;
    readonly rate: number;
    readonly initial: Parameters;
    readonly final: Parameters;
  }[];
  readonly losses: number[][];
  readonly smoothed: {
    readonly smoothing: number;
    readonly logits: number[];
    readonly labels: number[];
    readonly losses: number[];
    readonly gradient: number[];
  }[];
}

const fixture = JSON.parse(readFileSync(new URL('../fixtures/linear_probe.json', import.meta.url), 'utf8')) as Fixture;

test('linear heads: 30 steps as PyTorch takes them', async (t) => {
  const { classes, dim, batch, steps, features, labels, order, losses } = fixture;
  const heads = fixture.heads.map(({ kind, rate }): LinearHead => {
    const wide = kind !== 'last block';
    return { name: kind, blocks: wide ? 2 : 1, avgpool: wide, baseRate: rate, rate };
  });
  const probe = new LinearHeads(await testGpu(), { heads, classes, levels: 2, dim, batch, seed: 0 });
  await probe.compile();
  for (const [h, { initial }] of fixture.heads.entries()) {
    await probe.writeHead(h, { weight: Float32Array.from(initial.weight), bias: Float32Array.from(initial.bias) });
  }
  const columns = 3 * dim;
  const rowsOf = (places: readonly number[]): Float32Array =>
    Float32Array.from(places.flatMap((place) => features.slice(place * columns, (place + 1) * columns)));
  let worst = 0;
  for (let step = 0; step < steps; step++) {
    const places = order[step];
    probe.step(
      rowsOf(places),
      places.map((place) => labels[place]),
      0.5 * (1 + Math.cos((Math.PI * step) / steps)),
    );
    (await probe.lastLosses()).forEach((loss, h) => {
      worst = Math.max(worst, Math.abs(loss - losses[step][h]) / Math.max(1, losses[step][h]));
    });
  }
  t.ok(worst <= 1e-4, `losses of all steps and heads (worst ${worst.toExponential(1)})`);
  for (const [h, { kind, rate, final }] of fixture.heads.entries()) {
    const { weight, bias } = await probe.readHead(h);
    allClose(t, weight, final.weight, `${kind}, rate ${rate}: weights`, { absolute: 1e-4, relative: 1e-5 });
    allClose(t, bias, final.bias, `${kind}, rate ${rate}: biases`, { absolute: 1e-4, relative: 1e-5 });
  }

  // Ranks of all heads, and the scores of each by itself, say the same.
  const some = [0, 5, 9, 20, 39];
  const truth = some.map((place) => labels[place]);
  const ranks = await probe.ranks(rowsOf(some), truth);
  for (const h of [1, 4]) {
    const scorer = await probe.openHead(h);
    const scores = await scorer.scores(rowsOf(some));
    const { weight, bias } = fixture.heads[h].final;
    const width = weight.length / classes;
    const first = h < 3 ? dim : 0;
    const expected = some.flatMap((place) =>
      bias.map((b, c) => {
        let sum = b;
        for (let j = 0; j < width; j++) sum += weight[c * width + j] * features[place * columns + first + j];
        return sum;
      }),
    );
    allClose(t, scores, expected, `scores of head ${h}`, { absolute: 1e-4, relative: 1e-4 });
    const counted = some.map((_, i) => {
      const row = expected.slice(i * classes, (i + 1) * classes);
      return row.filter((score) => score > row[truth[i]]).length;
    });
    t.deepEqual(
      some.map((_, i) => ranks[i * heads.length + h]),
      counted,
      `ranks by head ${h}`,
    );
    scorer.dispose();
  }
  probe.dispose();
});

test('cross-entropy with label smoothing as PyTorch has it', async (t) => {
  const { classes } = fixture;
  const pitch = classPitch(classes);
  for (const { smoothing, logits, labels, losses, gradient } of fixture.smoothed) {
    const n = labels.length;
    const program = new Program(await testGpu(), 'smoothed');
    const x = program.input('logits', [n, pitch]);
    const y = program.input('labels', [n], 'u32');
    const upstream = program.constant('mean', [n], new Float32Array(n).fill(1 / n));
    const out = labelCrossEntropy(new Graph(program), { logits: x, labels: y, classes, smoothing, upstream });
    for (const tensor of [out.loss, out.gradient!]) program.keep(tensor);
    await program.compile();
    const padded = new Float32Array(n * pitch);
    logits.forEach((value, i) => {
      padded[Math.floor(i / classes) * pitch + (i % classes)] = value;
    });
    program.write(x, padded);
    program.write(y, Uint32Array.from(labels));
    program.run();
    const [loss, slopes] = await program.readAll([out.loss, out.gradient!]);
    allClose(t, loss, losses, `losses with smoothing ${smoothing}`, { absolute: 1e-4 });
    const unpadded = gradient.map((_, i) => slopes[Math.floor(i / classes) * pitch + (i % classes)]);
    allClose(t, unpadded, gradient, `gradient with smoothing ${smoothing}`, { absolute: 1e-5 });
    program.dispose();
  }
});

test('headGrid: 52 heads under their official names; fewer where there are fewer blocks', (t) => {
  const grid = headGrid(4, BASE_RATES.official, 1024);
  t.equal(grid.length, 52);
  t.equal(new Set(grid.map(({ name }) => name)).size, 52, 'with the official batch no two names are alike');
  t.equal(grid[0].name, 'classifier_1_blocks_avgpool_False_lr_0_00004');
  t.equal(grid[51].name, 'classifier_4_blocks_avgpool_True_lr_0_40000');
  t.deepEqual([grid[51].baseRate, grid[51].rate], [0.1, 0.4], 'rates grow with the batch');
  t.equal(headGrid(2, BASE_RATES.paper, 128)[51].name, 'classifier_2_blocks_avgpool_True_lr_0_25000');
  t.equal(headGrid(1, BASE_RATES.paper, 128).length, 26, 'one level has one choice of blocks');
  t.end();
});

test('linear heads: groups that a binding cannot hold are cut, with the same result', async (t) => {
  const gpu = await testGpu();
  const heads = headGrid(2, [0.01, 0.1, 1], 256);
  const options = { heads, classes: 7, levels: 2, dim: 8, batch: 16, seed: 3 };
  const few = Object.create(gpu, {
    // Room for two heads of the widest kind, which the stores' padding needs more than their values.
    capabilities: { value: { ...gpu.capabilities, maxBindingSizeBytes: 2048 } },
  }) as typeof gpu;
  const losses: Float64Array[] = [];
  const weights: Float32Array[] = [];
  for (const adapter of [gpu, few]) {
    const probe = new LinearHeads(adapter, options);
    await probe.compile();
    // The same start for both: groups are drawn under their own names.
    for (let h = 0; h < heads.length; h++) {
      const { weight, bias } = await probe.readHead(h);
      await probe.writeHead(h, { weight: noise(weight.length, h).map((v) => 0.1 * v), bias });
    }
    for (let step = 0; step < 3; step++) {
      probe.step(
        noise(16 * 24, 50 + step),
        Array.from({ length: 16 }, (_, i) => (i * 3 + step) % 7),
        1,
      );
    }
    losses.push(await probe.lastLosses());
    weights.push((await probe.readHead(11)).weight);
    probe.dispose();
  }
  allClose(t, losses[1], losses[0], 'losses');
  allClose(t, weights[1], weights[0], 'weights of the last head');
});

test('linear heads: a head that diverges takes no other with it and wins nothing', async (t) => {
  const gpu = await testGpu();
  const heads = headGrid(1, [0.1, 3e38], 256);
  const run = async () => {
    const probe = new LinearHeads(gpu, { heads, classes: 3, levels: 1, dim: 8, batch: 8, seed: 1 });
    await probe.compile();
    const features = noise(8 * 16, 2);
    const labels = [0, 1, 2, 0, 1, 2, 0, 1];
    for (let step = 0; step < 12; step++) probe.step(features, labels, 1);
    const losses = await probe.lastLosses();
    const ranks = await probe.ranks(features, labels);
    const { weight } = await probe.readHead(0);
    probe.dispose();
    return { losses, ranks, weight };
  };
  const { losses, ranks, weight } = await run();
  t.ok(losses[0] < 1 && losses[2] < 1, `sound heads learn (${losses[0].toFixed(3)}, ${losses[2].toFixed(3)})`);
  t.notOk(Number.isFinite(losses[1]) || Number.isFinite(losses[3]), 'the others have no finite loss');
  t.ok(
    [1, 3].every((h) => Array.from({ length: 8 }, (_, i) => ranks[i * 4 + h]).every((rank) => rank === 3)),
    'and hit nothing',
  );
  sameBits(t, (await run()).weight, weight, 'the same bits twice');
});
