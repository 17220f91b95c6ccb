/**
 * Trains a head on frozen tokens (spec §6.5.4, §6.6.1): tokens, head, loss, backward and AdamW are one recorded program.
 *
 * Tokens come end to end, from views drawn anew at every step, as in the official runs; or they are cached: computed once for
 * fixed windows that cover each picture and for their mirror images, which is much faster where the network is much larger than
 * its head, and learns from fewer views.
 */

import { join } from 'node:path';
import type { DensePair } from '../data/dense_source.js';
import {
  type DenseView,
  type DepthViews,
  drawDepthView,
  drawHeightView,
  drawSegmentationView,
  plainView,
  renderPicture,
  renderTarget,
  type SegmentationViews,
} from '../data/dense_views.js';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import type { Box } from '../data/resize.js';
import { WebdinoError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import { GRADIENT_LOSS_WEIGHT, gradientLoss, sigLoss, WARM_UP_STEPS } from '../tensor/depth_losses.js';
import { Graph } from '../tensor/graph.js';
import { LOSS_SCALE, lossScaleState } from '../tensor/loss_scale.js';
import { adamWHyper, HYPER_SHAPE, recordAdamW, recordClip } from '../tensor/optimizer.js';
import { ParameterStore } from '../tensor/parameters.js';
import { pixelCrossEntropy } from '../tensor/pixel_cross_entropy.js';
import { resizeBilinear } from '../tensor/resize_bilinear.js';
import { type DenseSet, labelsOf, metresOf } from './dense_set.js';
import { openTokens, recordTokens, TokenInputs, tokenRows, tokenValues } from './dense_tokens.js';
import { FeatureFile } from './feature_file.js';
import type { FrozenModel } from './frozen_model.js';
import { type PixelHead, readsNormed } from './pixel_head.js';
import { scaledSize, windowsOf } from './windows.js';

export const FEATURES = ['end-to-end', 'cached'] as const;
export type Features = (typeof FEATURES)[number];

/** The views of each task. */
export type ViewSettings =
  | ({ readonly kind: 'labels' } & SegmentationViews)
  | ({ readonly kind: 'depth' | 'height'; readonly withinOf?: (width: number, height: number) => Box } & DepthViews);

export interface HeadTraining {
  readonly iterations: number;
  /** Windows a step. */
  readonly batch: number;
  readonly learningRate: number;
  readonly schedule: 'poly' | 'cosine';
  readonly warmUp: number;
  readonly weightDecay: number;
  /** Largest norm of the gradient; 0: no clipping. */
  readonly maxNorm: number;
  readonly views: ViewSettings;
  readonly features: Features;
}

/** Share of the learning rate at the first step, and at the end. */
const SCHEDULES = { poly: { first: 1e-6, last: 0 }, cosine: { first: 1e-3, last: 1e-8 } } as const;

/** The learning rate of step i: mmcv's poly (power 1) or cosine, times a linear warm-up. */
export function headLearningRate(
  {
    learningRate,
    schedule,
    iterations,
    warmUp,
  }: Pick<HeadTraining, 'learningRate' | 'schedule' | 'iterations' | 'warmUp'>,
  i: number,
): number {
  const { first, last } = SCHEDULES[schedule];
  const done = i / iterations;
  const left = schedule === 'poly' ? 1 - done : 0.5 * (1 + Math.cos(Math.PI * done));
  const rate = learningRate * (last + (1 - last) * left);
  return i < warmUp ? rate * (1 - (1 - i / warmUp) * (1 - first)) : rate;
}

export interface HeadTrainingContext {
  readonly gpu: Gpu;
  readonly seed: number;
  /** An existing folder for cached tokens. */
  readonly cacheFolder: string;
  /** Most windows a pass through the network, where they are cached. */
  readonly tokenBatch: number;
  progress(what: string, done: number, total: number): void;
}

export interface TrainedHead {
  /** [step, loss] at up to 50 steps. */
  readonly losses: readonly (readonly [number, number])[];
}

/** What a step learns from. */
interface StepData {
  /** u8 [batch, height, width, 3], or rows of tokens. */
  readonly input: Uint8Array | Float32Array;
  /** [batch, height, width] */
  readonly target: Uint32Array | Float32Array;
}

interface Feed {
  prepare(step: number): Promise<StepData>;
  write(data: StepData): Promise<void>;
  dispose(): void;
}

/**
 * Trains `head` in place.
 * @throws WebdinoError where the loss is no number any more
 */
export async function trainPixelHead(
  head: PixelHead,
  model: FrozenModel,
  set: DenseSet,
  settings: HeadTraining,
  context: HeadTrainingContext,
): Promise<TrainedHead> {
  const { gpu, progress } = context;
  const program = new Program(gpu, `head on ${model.name}`);
  const stores = ['gradients', 'first moment', 'second moment'].map((name) => head.parameters.like(`head ${name}`));
  const lossScale = new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]);
  let feed: Feed | undefined;
  try {
    const [gradients, firstMoment, secondMoment] = stores;
    head.parameters.trainable(gradients);
    await lossScale.write(LOSS_SCALE.name, lossScaleState({}));
    const graph = new Graph(program);
    const recorded = await recordFeed(graph, head, model, set, settings, context);
    feed = recorded.feed;
    const [height, width] = settings.views.crop;
    const pixels = settings.batch * height * width;
    const map = resizeBilinear(graph, head.record(graph, recorded.tokens, 'training'), {
      height,
      width,
      alignCorners: false,
    });
    const one = (weight: number): Tensor => program.constant('loss weight', [1], Float32Array.of(weight));
    const losses: [Tensor, Tensor][] = [];
    if (settings.views.kind === 'labels') {
      const labels = program.input('target', [pixels], 'u32');
      losses.push([pixelCrossEntropy(graph, map.values, labels), one(1)]);
    } else {
      const truth = program.input('target', [pixels]);
      const validity = { maxDepth: head.config.max + head.offset };
      losses.push([sigLoss(graph, map.values, truth, program.input('warm-up', [1], 'u32'), validity), one(1)]);
      losses.push([gradientLoss(graph, map, truth, validity), one(GRADIENT_LOSS_WEIGHT)]);
    }
    for (const [loss] of losses) program.keep(loss);
    graph.backward(losses);
    const { names } = head.parameters;
    const clip = recordClip(graph, gradients, {
      modules: new Map(names.map((name) => [name, 0])),
      moduleCount: 1,
      hyper: program.input('rates', HYPER_SHAPE),
      lossScale: lossScale.get(LOSS_SCALE.name),
      growthInterval: 0,
    });
    // All of a head decays: the official exceptions (norms, pos_embed, cls_token) are parts of the backbone.
    const group = { lrMultiplier: 1, wdMultiplier: 1, isLastLayer: false, module: 0 };
    recordAdamW(
      graph,
      { student: head.parameters, gradients, firstMoment, secondMoment },
      new Map(names.map((name) => [name, group])),
      clip.step,
    );
    await program.compile();
    return await run(program, feed, settings, losses, (step) =>
      progress(`head on ${model.name}`, step, settings.iterations),
    );
  } finally {
    feed?.dispose();
    for (const owned of [program, lossScale, ...stores]) owned.dispose();
  }
}

async function run(
  program: Program,
  feed: Feed,
  settings: HeadTraining,
  losses: readonly (readonly [Tensor, Tensor])[],
  progress: (step: number) => void,
): Promise<TrainedHead> {
  const { iterations, weightDecay, maxNorm, views } = settings;
  const every = Math.max(Math.ceil(iterations / 50), 1);
  // Short runs shorten the loss's warm-up as well.
  const lossWarmUp = Math.min(WARM_UP_STEPS, Math.floor(iterations / 10));
  const curve: [number, number][] = [];
  let next = feed.prepare(0);
  for (let step = 0; step < iterations; step++) {
    const data = await next;
    await feed.write(data);
    program.write('target', data.target);
    if (views.kind !== 'labels') program.write('warm-up', Uint32Array.of(Number(step < lossWarmUp)));
    const learningRate = headLearningRate(settings, step);
    program.write(
      'rates',
      adamWHyper({
        learningRate,
        lastLayerLearningRate: learningRate,
        weightDecay,
        teacherMomentum: 1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        maxNorm,
      }),
    );
    program.run();
    // The next views are rendered while the GPU works.
    if (step + 1 < iterations) {
      next = feed.prepare(step + 1);
      next.catch(() => {});
    }
    if (step % every !== 0 && step + 1 !== iterations) continue;
    const values = await program.readAll(losses.map(([loss]) => loss));
    const loss = values.reduce((sum, [value], i) => sum + value * (i === 0 ? 1 : GRADIENT_LOSS_WEIGHT), 0);
    if (!Number.isFinite(loss)) {
      throw new WebdinoError(`the head's loss is ${loss} at step ${step}: it has diverged; lower --head-lr`);
    }
    curve.push([step, loss]);
    progress(step + 1);
  }
  return { losses: curve };
}

/** The picture of a draw: each pass over the set in an order of its own. */
function drawnItem(count: number, draw: number, seed: number, orders: Map<number, Uint32Array>): number {
  const pass = Math.floor(draw / count);
  let order = orders.get(pass);
  if (!order) {
    order = new CounterRandom(seed, RandomPurpose.denseOrder, pass).permutation(count);
    orders.clear();
    orders.set(pass, order);
  }
  return order[draw % count];
}

function renderBatchTarget(
  views: ViewSettings,
  offset: number,
  pairs: readonly { readonly pair: DensePair; readonly view: DenseView }[],
): Uint32Array | Float32Array {
  const [height, width] = views.crop;
  const pixels = height * width;
  if (views.kind === 'labels') {
    const labels = new Uint8Array(pairs.length * pixels);
    pairs.forEach(({ pair, view }, i) => {
      renderTarget(labelsOf(pair), pair.picture, view, labels.subarray(i * pixels, (i + 1) * pixels));
    });
    return Uint32Array.from(labels);
  }
  const metres = new Float32Array(pairs.length * pixels);
  pairs.forEach(({ pair, view }, i) => {
    renderTarget(metresOf(pair), pair.picture, view, metres.subarray(i * pixels, (i + 1) * pixels));
  });
  // The losses take 0 and less for "not measured".
  return metres.map((value) => (Number.isNaN(value) ? 0 : value + offset));
}

function drawView(pair: DensePair, views: ViewSettings, random: CounterRandom): DenseView {
  const { picture } = pair;
  if (views.kind === 'labels') return drawSegmentationView(picture, labelsOf(pair), views, random);
  const within = views.withinOf?.(picture.width, picture.height);
  return (views.kind === 'depth' ? drawDepthView : drawHeightView)(picture, { ...views, within }, random);
}

async function recordFeed(
  graph: Graph,
  head: PixelHead,
  model: FrozenModel,
  set: DenseSet,
  settings: HeadTraining,
  context: HeadTrainingContext,
): Promise<{ feed: Feed; tokens: Parameters<PixelHead['record']>[1] }> {
  const { views, batch } = settings;
  const { seed } = context;
  const [height, width] = views.crop;
  const { blocks } = head.config;
  const request = { size: views.crop, batch, blocks, norm: readsNormed(head.config.task) };
  const orders = new Map<number, Uint32Array>();

  if (settings.features === 'cached') {
    const { file, windows, reader } = await cacheTokens(head, model, set, settings, context);
    const inputs = new TokenInputs(graph.program, reader, request);
    const feed: Feed = {
      prepare: async (step) => {
        const drawn = Array.from({ length: batch }, (_, i) =>
          drawnItem(windows.length, step * batch + i, seed, orders),
        );
        const pairs = await Promise.all(
          drawn.map(async (place) => {
            const { picture, view } = windows[place];
            return { pair: await set.pair(picture), view };
          }),
        );
        return { input: file.readRows(drawn), target: renderBatchTarget(views, head.offset, pairs) };
      },
      write: async ({ input }) => inputs.writeRows(input as Float32Array),
      dispose: () => {
        reader.dispose();
        file.close();
      },
    };
    return { feed, tokens: inputs.tokens };
  }

  const source = await recordTokens(graph, model, request);
  const feed: Feed = {
    prepare: async (step) => {
      const pixels = new Uint8Array(batch * height * width * 3);
      const pairs = await Promise.all(
        Array.from({ length: batch }, async (_, i) => {
          const pair = await set.pair(drawnItem(set.length, step * batch + i, seed, orders));
          return { pair, view: drawView(pair, views, new CounterRandom(seed, RandomPurpose.denseViews, step, i)) };
        }),
      );
      const bytes = height * width * 3;
      pairs.forEach(({ pair, view }, i) => {
        renderPicture(pair.picture, view, pixels.subarray(i * bytes, (i + 1) * bytes));
      });
      return { input: pixels, target: renderBatchTarget(views, head.offset, pairs) };
    },
    write: ({ input }) => source.write(input as Uint8Array, batch),
    dispose: () => source.dispose(),
  };
  return { feed, tokens: source.tokens };
}

interface CachedWindow {
  readonly picture: number;
  /** Where its target lies. */
  readonly view: DenseView;
}

/** Tokens of windows that cover every picture at its usual size, and of their mirror images. */
async function cacheTokens(
  head: PixelHead,
  model: FrozenModel,
  set: DenseSet,
  { views }: HeadTraining,
  { cacheFolder, tokenBatch, progress }: HeadTrainingContext,
) {
  const [height, width] = views.crop;
  const request = {
    size: views.crop,
    batch: tokenBatch,
    blocks: head.config.blocks,
    norm: readsNormed(head.config.task),
  };
  const reader = await openTokens(model, request);
  const path = join(cacheFolder, `tokens-${model.name.replace(/\W+/g, '-')}-${process.hrtime.bigint()}.halves`);
  const file = FeatureFile.create(path, tokenValues(reader));
  try {
    const windows: CachedWindow[] = [];
    const bytes = height * width * 3;
    let pixels = new Uint8Array(tokenBatch * bytes);
    let waiting = 0;
    const flush = async (): Promise<void> => {
      if (waiting === 0) return;
      const n = waiting;
      file.append(tokenRows(reader, await reader.read(pixels.subarray(0, n * bytes), n), n));
      pixels = new Uint8Array(tokenBatch * bytes);
      waiting = 0;
    };
    for (let i = 0; i < set.length; i++) {
      const { picture } = await set.pair(i);
      const scaled = scaledSize(picture, views.shorterSide);
      const inside = views.kind === 'labels' ? undefined : views.withinOf?.(picture.width, picture.height);
      for (const window of windowsOf(scaled, [width, height], [width, height])) {
        for (const flip of [false, true]) {
          const view = plainView(picture, scaled, window, flip);
          renderPicture(picture, view, pixels.subarray(waiting * bytes, (waiting + 1) * bytes));
          windows.push({ picture: i, view: inside ? { ...view, within: inside } : view });
          if (++waiting === tokenBatch) await flush();
        }
      }
      progress(`tokens of ${model.name}`, i + 1, set.length);
    }
    await flush();
    return { file, windows, reader };
  } catch (error) {
    reader.dispose();
    file.close();
    throw error;
  }
}
