/** The dense operators and heads against what PyTorch computed for the same inputs: test/fixtures/dense_heads.py. */

import { readFileSync } from 'node:fs';
import test, { type Test } from 'tape';
import {
  linearDepthHead,
  linearDepthParameters,
  segmentationHead,
  segmentationParameters,
  segmentationState,
  type TokenLevels,
} from '../../src/dinov2/dense_head.js';
import { dptHead, dptParameters } from '../../src/dinov2/dpt_head.js';
import { initializeDenseHead } from '../../src/dinov2/initialize_dense.js';
import { weightsOf } from '../../src/dinov2/vit.js';
import { Program } from '../../src/gpu/program.js';
import type { Tensor, TypedData } from '../../src/gpu/tensor.js';
import { batchNorm } from '../../src/tensor/batch_norm.js';
import { convolution3x3, transposedConvolution } from '../../src/tensor/convolution.js';
import { depthBins } from '../../src/tensor/depth_bins.js';
import { GRADIENT_LOSS_WEIGHT, gradientLoss, sigLoss } from '../../src/tensor/depth_losses.js';
import type { FeatureMap } from '../../src/tensor/feature_map.js';
import { Graph } from '../../src/tensor/graph.js';
import { type ParameterSpec, ParameterStore } from '../../src/tensor/parameters.js';
import { pixelCrossEntropy } from '../../src/tensor/pixel_cross_entropy.js';
import { resizeBilinear } from '../../src/tensor/resize_bilinear.js';
import { allClose, noise, testGpu } from '../fixture.js';

interface Stored {
  readonly count: number;
  readonly step: number;
  readonly values: readonly number[];
}

interface Outcome {
  readonly result: Stored;
  readonly gradients: Readonly<Record<string, Stored>>;
}

interface HeadOutcome {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly map: Stored;
  readonly mapSize: readonly [number, number];
  readonly loss: number;
  readonly gradients: Readonly<Record<string, Stored>>;
  readonly runningMean?: Stored;
  readonly runningVar?: Stored;
  readonly evaluation?: Stored;
}

interface Fixture {
  readonly convolution: Readonly<Record<'1' | '2', Outcome>>;
  readonly transposed: Readonly<Record<string, Outcome>>;
  readonly resize: readonly (Outcome & { height: number; width: number; alignCorners: boolean })[];
  readonly batchNorm: Readonly<
    Record<'training' | 'evaluation', Outcome & { runningMean: number[]; runningVar: number[] }>
  >;
  readonly crossEntropy: Outcome;
  readonly depthBins: Outcome;
  readonly depthLosses: Readonly<Record<'sig' | 'sigWarmUp' | 'gradient', Outcome>>;
  readonly heads: Readonly<Record<'segmentation1' | 'segmentation4' | 'depth1' | 'depth4' | 'dpt', HeadOutcome>>;
}

const FIXTURE = JSON.parse(readFileSync(new URL('../fixtures/dense_heads.json', import.meta.url), 'utf8')) as Fixture;

/** 1e-4 of the largest value. */
function matches(t: Test, got: TypedData, { count, step, values }: Stored, what: string): void {
  t.equal(got.length, count, `${what}: ${count} values`);
  allClose(
    t,
    Array.from(got).filter((_, i) => i % step === 0),
    values,
    what,
    { absolute: 1e-5, relative: 1e-4 },
  );
}

/** As `tensor` in dense_heads.py. */
function drawn(count: number, seed: number, scale = 1, offset = 0): Float32Array {
  return noise(count, seed).map((v) => v * scale + offset);
}

type Inputs = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>;

/** Records an operator over inputs whose gradients are followed, and compares with PyTorch. */
async function compareOperator(
  t: Test,
  outcome: Outcome,
  inputs: Inputs,
  build: (graph: Graph, tensors: Readonly<Record<string, Tensor>>) => Tensor,
  then?: (program: Program) => Promise<void>,
): Promise<void> {
  const program = new Program(await testGpu(), 'dense operator');
  const graph = new Graph(program);
  const tensors: Record<string, Tensor> = {};
  for (const [name, { shape, data }] of Object.entries(inputs)) {
    tensors[name] = program.input(name, shape);
    tensors[name].requiresGrad = true;
    program.write(tensors[name], data);
  }
  const y = program.keep(build(graph, tensors));
  const upstream = y.elements === 1 ? Float32Array.of(1) : noise(y.elements, 99);
  graph.backward([[y, program.constant('upstream', y.shape, upstream)]]);
  const names = Object.keys(outcome.gradients);
  const gradients = names.map((name) => program.keep(graph.gradientOf(tensors[name])!));
  await program.compile({ guard: true });
  program.run();
  const [result, ...slopes] = await program.readAll([y, ...gradients]);
  matches(t, result, outcome.result, 'result');
  names.forEach((name, i) => {
    matches(t, slopes[i], outcome.gradients[name], `gradient of ${name}`);
  });
  await then?.(program);
  program.dispose();
}

function labels(count: number, classes: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, r) => (r % 5 === 3 ? 255 : (r * 7) % classes));
}

function truth(count: number): Float32Array {
  return drawn(count, 8, 3, 4).map((v, i) => (i % 11 === 8 ? 100 : i % 7 === 5 ? 0 : v));
}

test('convolutions as PyTorch has them', async (t) => {
  const map = { pictures: 2, height: 5, width: 7 };
  for (const stride of [1, 2] as const) {
    const inputs = {
      x: { shape: [70, 3], data: drawn(210, 1) },
      weight: { shape: [5, 3, 3, 3], data: drawn(135, 2, 0.3) },
      bias: { shape: [5], data: drawn(5, 3) },
    };
    await compareOperator(
      t,
      FIXTURE.convolution[stride],
      inputs,
      (graph, { x, weight, bias }) => convolution3x3(graph, { values: x, ...map }, weight, { bias, stride }).values,
    );
  }
  for (const k of [2, 4]) {
    const inputs = {
      x: { shape: [24, 6], data: drawn(144, 1) },
      weight: { shape: [6, 5, k, k], data: drawn(30 * k * k, 2, 0.4) },
      bias: { shape: [5], data: drawn(5, 3) },
    };
    await compareOperator(
      t,
      FIXTURE.transposed[k],
      inputs,
      (graph, { x, weight, bias }) =>
        transposedConvolution(graph, { values: x, pictures: 2, height: 3, width: 4 }, weight, bias).values,
    );
  }
});

test('bilinear resizes as PyTorch has them', async (t) => {
  for (const { height, width, alignCorners, ...outcome } of FIXTURE.resize) {
    t.comment(`to ${height} x ${width}${alignCorners ? ', corners aligned' : ''}`);
    const inputs = { x: { shape: [70, 3], data: drawn(210, 1) } };
    await compareOperator(t, outcome, inputs, (graph, { x }) => {
      const map = { values: x, pictures: 2, height: 5, width: 7 };
      return resizeBilinear(graph, map, { height, width, alignCorners }).values;
    });
  }
});

test('batch norm as PyTorch has it, with its running statistics', async (t) => {
  for (const mode of ['training', 'evaluation'] as const) {
    const outcome = FIXTURE.batchNorm[mode];
    const inputs = {
      x: { shape: [35, 6], data: drawn(210, 1, 2, 3) },
      weight: { shape: [6], data: drawn(6, 2, 0.3, 1) },
      bias: { shape: [6], data: drawn(6, 3) },
    };
    const running: Tensor[] = [];
    const build = (graph: Graph, { x, weight, bias }: Readonly<Record<string, Tensor>>): Tensor => {
      const { program } = graph;
      running.push(...['mean', 'variance'].map((name) => program.input(name, [6])));
      program.write('mean', drawn(6, 4));
      program.write('variance', drawn(6, 5, 0.5, 1));
      return batchNorm(graph, x, { weight, bias, runningMean: running[0], runningVar: running[1] }, mode);
    };
    await compareOperator(t, outcome, inputs, build, async (program) => {
      const [mean, variance] = await program.readAll(running);
      allClose(t, mean, outcome.runningMean, `${mode}: running mean`);
      allClose(t, variance, outcome.runningVar, `${mode}: running variance`);
    });
  }
});

test('losses and depth bins as PyTorch has them', async (t) => {
  const logits = { logits: { shape: [40, 21], data: drawn(840, 1, 4) } };
  await compareOperator(t, FIXTURE.crossEntropy, logits, (graph, tensors) =>
    pixelCrossEntropy(graph, tensors.logits, graph.program.constant('labels', [40], labels(40, 21))),
  );
  const bins = { logits: { shape: [20, 64], data: drawn(1280, 1) } };
  await compareOperator(t, FIXTURE.depthBins, bins, (graph, tensors) =>
    depthBins(graph, tensors.logits, { min: 0.001, max: 10 }),
  );
  const pixels = 2 * 15 * 17;
  const map = { pictures: 2, height: 15, width: 17 };
  const prediction = { prediction: { shape: [pixels, 1], data: drawn(pixels, 1, 2, 3) } };
  for (const [name, outcome] of Object.entries(FIXTURE.depthLosses)) {
    t.comment(name);
    await compareOperator(t, outcome, prediction, (graph, tensors) => {
      const { program } = graph;
      const target = program.constant('truth', [pixels], truth(pixels));
      if (name === 'gradient') {
        return gradientLoss(graph, { values: tensors.prediction, ...map }, target, { maxDepth: 10 });
      }
      const flag = program.constant('warm up', [1], Uint32Array.of(name === 'sigWarmUp' ? 1 : 0));
      return sigLoss(graph, tensors.prediction, target, flag, { maxDepth: 10 });
    });
  }
});

// --- Heads -----------------------------------------------------------------------------------------------------------

const GRID = { pictures: 2, height: 3, width: 4 };
const PIXELS = 24;
const DIM = 32;

/** As `with_noise` in dense_heads.py. */
function weightsByName(specs: readonly ParameterSpec[]): Map<string, Float32Array> {
  const sorted = [...specs].sort((a, b) => (a.name < b.name ? -1 : 1));
  return new Map(
    sorted.map(({ name, shape }, k) => {
      const [elements, fanIn] = [shape, shape.slice(1)].map((sizes) => sizes.reduce((a, b) => a * b, 1));
      const scale = shape.length > 1 ? 1.5 / Math.sqrt(fanIn) : 0.2;
      return [name, drawn(elements, 100 + k, scale, name.endsWith('bn.weight') ? 1 : 0)];
    }),
  );
}

function tokenInputs(program: Program, levels: number): TokenLevels {
  const inputs = (name: string, rows: number, seed: number): Tensor[] =>
    Array.from({ length: levels }, (_, i) => {
      const tensor = program.input(`${name}${i}`, [rows, DIM]);
      tensor.requiresGrad = true;
      program.write(tensor, noise(rows * DIM, seed + i));
      return tensor;
    });
  return { patches: inputs('patches', PIXELS, 10), cls: inputs('cls', GRID.pictures, 20), ...GRID };
}

type DenseLoss = readonly (readonly [loss: Tensor, weight: number])[];

/** Records head and losses, and compares map, loss and gradients with PyTorch. */
async function compareHead(
  t: Test,
  outcome: HeadOutcome,
  levels: number,
  specs: readonly ParameterSpec[],
  state: ParameterStore | undefined,
  head: (graph: Graph, store: ParameterStore, tokens: TokenLevels) => FeatureMap,
  lossesOf: (graph: Graph, map: FeatureMap) => DenseLoss,
): Promise<ParameterStore> {
  const gpu = await testGpu();
  const shapes = [...specs, ...(state ? segmentationState({ dim: DIM, levels, classes: 21 }) : [])];
  const byName = (a: readonly [string, unknown], b: readonly [string, unknown]): number => (a[0] < b[0] ? -1 : 1);
  t.deepEqual(
    shapes.map(({ name, shape }) => [name, [...shape]] as const).sort(byName),
    Object.entries(outcome.shapes).sort(byName),
    'names and shapes of the published checkpoint',
  );
  const store = new ParameterStore(gpu, 'head', specs);
  const gradients = store.like('gradients');
  store.trainable(gradients);
  await store.writeAll(weightsByName(specs));
  const program = new Program(gpu, 'head');
  const graph = new Graph(program);
  const tokens = tokenInputs(program, levels);
  const map = head(graph, store, tokens);
  program.keep(map.values);
  t.deepEqual([map.height, map.width], outcome.mapSize, `a map of ${outcome.mapSize}`);
  const losses = lossesOf(graph, map);
  for (const [loss] of losses) program.keep(loss);
  graph.backward(
    losses.map(([loss, weight], i) => [loss, program.constant(`seed ${i}`, [1], Float32Array.of(weight))]),
  );
  const inputs = new Map([...tokens.patches, ...tokens.cls].map((tensor) => [tensor.name, tensor]));
  const names = Object.keys(outcome.gradients);
  const wanted = names.map((name) => {
    const input = inputs.get(name);
    return input ? program.keep(graph.gradientOf(input)!) : gradients.get(name);
  });
  await program.compile({ guard: true });
  program.run();
  const [values, ...rest] = await program.readAll([map.values, ...losses.map(([loss]) => loss), ...wanted]);
  matches(t, values, outcome.map, 'map');
  const loss = losses.reduce((sum, [, weight], i) => sum + weight * rest[i][0], 0);
  t.ok(Math.abs(loss - outcome.loss) < 1e-4, `loss ${loss}, PyTorch's ${outcome.loss}`);
  names.forEach((name, i) => {
    matches(t, rest[losses.length + i], outcome.gradients[name], `gradient of ${name}`);
  });
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
  gradients.dispose();
  return store;
}

function depthLosses(graph: Graph, map: FeatureMap): DenseLoss {
  const { program } = graph;
  const fine = resizeBilinear(graph, map, { height: 15, width: 17, alignCorners: false });
  const pixels = fine.values.elements;
  const target = program.constant('truth', [pixels], truth(pixels));
  const flag = program.constant('warm up', [1], Uint32Array.of(0));
  return [
    [sigLoss(graph, fine.values, target, flag, { maxDepth: 10 }), 1],
    [gradientLoss(graph, fine, target, { maxDepth: 10 }), GRADIENT_LOSS_WEIGHT],
  ];
}

for (const levels of [1, 4] as const) {
  test(`segmentation head of ${levels} levels as PyTorch has it`, async (t) => {
    const gpu = await testGpu();
    const config = { dim: DIM, levels, classes: 21 };
    const outcome = FIXTURE.heads[`segmentation${levels}`];
    const state = new ParameterStore(gpu, 'state', segmentationState(config));
    await initializeDenseHead(gpu, state, 0);
    const store = await compareHead(
      t,
      outcome,
      levels,
      segmentationParameters(config),
      state,
      (graph, weights, tokens) =>
        segmentationHead(graph, config, weightsOf(weights), weightsOf(state), tokens, 'training'),
      (graph, map) => {
        const fine = resizeBilinear(graph, map, { height: 9, width: 11, alignCorners: false });
        const rows = fine.values.rows;
        return [[pixelCrossEntropy(graph, fine.values, graph.program.constant('labels', [rows], labels(rows, 21))), 1]];
      },
    );
    const running = await state.readAll();
    matches(t, running.get('decode_head.bn.running_mean')!, outcome.runningMean!, 'running mean');
    matches(t, running.get('decode_head.bn.running_var')!, outcome.runningVar!, 'running variance');

    const program = new Program(gpu, 'evaluation');
    const tokens = tokenInputs(program, levels);
    const { values } = segmentationHead(
      new Graph(program),
      config,
      weightsOf(store),
      weightsOf(state),
      tokens,
      'evaluation',
    );
    program.keep(values);
    await program.compile();
    program.run();
    const [got] = await program.readAll([values]);
    matches(t, got, outcome.evaluation!, 'logits of the evaluation, by the running statistics');
    program.dispose();
    for (const owned of [store, state]) owned.dispose();
  });

  test(`linear depth head of ${levels} levels as PyTorch has it`, async (t) => {
    const config = { dim: DIM, levels, bins: 64, min: 0.001, max: 10 };
    const specs = linearDepthParameters(config);
    const store = await compareHead(
      t,
      FIXTURE.heads[`depth${levels}`],
      levels,
      specs,
      undefined,
      (graph, weights, tokens) => linearDepthHead(graph, config, weightsOf(weights), tokens),
      depthLosses,
    );
    store.dispose();
  });
}

test('DPT head as PyTorch has it', async (t) => {
  const config = { dim: DIM, channels: 32, minDepth: 0.001 };
  const store = await compareHead(
    t,
    FIXTURE.heads.dpt,
    4,
    dptParameters(config),
    undefined,
    (graph, weights, tokens) => dptHead(graph, config, weightsOf(weights), tokens),
    depthLosses,
  );
  store.dispose();
});

test("dense heads start from PyTorch's defaults, by seed and name alone", async (t) => {
  const gpu = await testGpu();
  const values = async (specs: readonly ParameterSpec[], seed: number): Promise<Map<string, Float32Array>> => {
    const store = new ParameterStore(gpu, 'head', specs);
    await initializeDenseHead(gpu, store, seed);
    const all = await store.readAll();
    store.dispose();
    return all;
  };
  const dpt = dptParameters({ dim: 64, channels: 64, minDepth: 0 });
  const first = await values(dpt, 5);
  t.deepEqual(await values(dpt, 5), first, 'one seed, one start');
  t.notDeepEqual(await values(dpt, 6), first, 'another seed, another start');
  const within = (all: Map<string, Float32Array>, name: string, bound: number): void => {
    const largest = all.get(`decode_head.${name}`)!.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
    t.ok(largest <= bound * (1 + 1e-6) && largest > 0.5 * bound, `${name}: up to ${largest}, bound ${bound}`);
  };
  within(first, 'convs.3.conv.weight', 1 / 24);
  within(first, 'project.conv.bias', 1 / 24);
  within(first, 'reassemble_blocks.resize_layers.0.weight', 1 / Math.sqrt(8 * 16));
  within(first, 'reassemble_blocks.readout_projects.0.0.weight', 1 / Math.sqrt(128));
  const config = { dim: 64, levels: 4, classes: 19 };
  const segmentation = await values([...segmentationParameters(config), ...segmentationState(config)], 5);
  within(segmentation, 'conv_seg.weight', 0.045);
  const constant = (name: string, value: number): void =>
    t.ok(
      segmentation.get(`decode_head.${name}`)!.every((v) => v === value),
      `${name} is ${value}`,
    );
  constant('conv_seg.bias', 0);
  constant('bn.weight', 1);
  constant('bn.bias', 0);
  constant('bn.running_mean', 0);
  constant('bn.running_var', 1);
});

test('dense heads refuse what does not fit them', async (t) => {
  const program = new Program(await testGpu(), 'refused');
  const graph = new Graph(program);
  const weights = { get: () => t.fail('no weight is read'), optional: () => undefined } as never;
  const tokens = tokenInputs(program, 4);
  const depth = { dim: DIM, levels: 4, min: 0.001, max: 10 };
  t.throws(() => linearDepthHead(graph, { ...depth, levels: 1 }, weights, tokens), /4 levels of patch tokens, not 1/);
  t.throws(() => linearDepthHead(graph, { ...depth, max: 0 }, weights, tokens), /depths from 0.001 to 0: no range/);
  t.throws(() => linearDepthHead(graph, { ...depth, dim: 64 }, weights, tokens), /\[24,32\] are not \[24, 64\]/);
  t.throws(() => linearDepthHead(new Graph(program, 'f16'), depth, weights, tokens), /a float32 graph/);
  t.throws(() => dptParameters({ dim: 36, minDepth: 0 }), /multiples of 8/);
  t.throws(
    () => dptHead(graph, { dim: DIM, minDepth: 0 }, weights, { ...tokens, cls: [] }),
    /0 levels of CLS tokens, not 4/,
  );
});
