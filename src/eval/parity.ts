/**
 * Runs golden cases, outputs and gradients of the reference PyTorch modules, through our implementation.
 *
 * A case is one safetensors file whose metadata says its kind and configuration; inputs and weights are made from a hash.
 * The runner knows the kinds, never the cases.
 */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type HeadConfig, headFeatures, headParameters, headPrototypes } from '../dinov2/head.js';
import { collateFromMasks } from '../dinov2/masking.js';
import { cosineSchedule } from '../dinov2/schedules.js';
import { SslTrainer, sslParameters, type SslConfig, type StepInput } from '../dinov2/ssl.js';
import {
  feedForwardNamed,
  finalNorm,
  patchRows,
  tokenRows,
  VIT_SIZES,
  type VitConfig,
  vitForward,
  vitParameters,
  weightsOf,
} from '../dinov2/vit.js';
import { DataError, UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import { goldenImage, goldenParameter } from '../io/golden_hash.js';
import { readSafetensors, type Safetensors } from '../io/safetensors.js';
import { crossEntropyTile } from '../tensor/cross_entropy.js';
import { Graph } from '../tensor/graph.js';
import { koleo } from '../tensor/koleo.js';
import { linear } from '../tensor/linear.js';
import { ParameterStore, type ParameterSpec } from '../tensor/parameters.js';
import { givenLogits } from '../tensor/prototype_logits.js';
import { sumOfViews } from '../tensor/prototype_loss.js';
import { ranksOfPermutations } from '../tensor/row_subsets.js';
import { sinkhornKnopp, wholeTargets } from '../tensor/teacher_targets.js';

/** In float32: |ours - reference| <= ABSOLUTE + RELATIVE max|reference|, and cosine >= COSINE, per tensor. */
const ABSOLUTE = 1e-4;
const RELATIVE = 1e-3;
const COSINE = 0.99999;

/** In half precision: the cosine of everything that has a direction; of gradients and of single numbers the relative L2 error. */
const HALF_COSINE = 0.9995;
const HALF_RELATIVE_L2 = 2e-2;

interface Agreement {
  readonly maxError: number;
  /** L2 norms of the difference and of the reference. */
  readonly errorNorm: number;
  readonly norm: number;
  /** NaN where there is no direction to compare. */
  readonly cosine: number;
  readonly largest: number;
}

/** The part of what is allowed that is used up; at most 1 passes. */
function shareOfBound(
  dtype: Storage,
  group: string,
  { maxError, errorNorm, norm, cosine, largest }: Agreement,
): number {
  if (dtype === 'f32') {
    const share = maxError / (ABSOLUTE + RELATIVE * largest);
    return Number.isNaN(cosine) || cosine >= COSINE ? share : Math.max(share, (1 - cosine) / (1 - COSINE));
  }
  if (Number.isNaN(cosine) || group.startsWith('gradient')) {
    return errorNorm / (ABSOLUTE + HALF_RELATIVE_L2 * norm);
  }
  return (1 - cosine) / (1 - HALF_COSINE);
}

export interface TensorComparison {
  readonly name: string;
  /** What the tensor is about: comparisons are summed up by group. */
  readonly group: string;
  readonly maxError: number;
  /** maxError over what is allowed; at most 1 passes. */
  readonly share: number;
  /** NaN for a single value or a reference of zeros. */
  readonly cosine: number;
  readonly pass: boolean;
  /** False for what is shown but not judged. */
  readonly judged: boolean;
}

export interface CaseResult {
  readonly name: string;
  readonly kind: string;
  readonly status: 'pass' | 'fail' | 'skipped';
  /** Why it was skipped or failed to run. */
  readonly reason?: string;
  readonly parameters: number;
  readonly seconds: number;
  readonly comparisons: readonly TensorComparison[];
}

export interface ParityOptions {
  /** Cases with more parameters are skipped. */
  readonly maxParams?: number;
  /** How activations are stored; f32 by default. */
  readonly dtype?: Storage;
  /** Most bytes of a tile of logits in training steps. */
  readonly lossTileBytes?: number;
  readonly onCase?: (result: CaseResult) => void;
}

interface CaseFile {
  readonly kind: string;
  readonly seed: number;
  readonly tensors: Safetensors;
  readonly json: Record<string, unknown>;
}

/** Collects comparisons of one case; every stored tensor must be asked for. */
class Comparer {
  readonly comparisons: TensorComparison[] = [];
  private readonly seen = new Set<string>();

  constructor(
    private readonly file: CaseFile,
    readonly dtype: Storage,
  ) {}

  has(name: string): boolean {
    return this.file.tensors.tensors.has(name);
  }

  compare(name: string, group: string, ours: ArrayLike<number>, judged = true): void {
    const reference = this.file.tensors.float32(name);
    this.seen.add(name);
    if (ours.length !== reference.length) {
      throw new DataError(`${name} has ${reference.length} values in the golden file, ours has ${ours.length}`);
    }
    let maxError = 0;
    let largest = 0;
    let [dot, a2, b2, error2] = [0, 0, 0, 0];
    for (let i = 0; i < reference.length; i++) {
      const difference = Math.abs(ours[i] - reference[i]);
      maxError = Math.max(maxError, Number.isFinite(ours[i]) ? difference : Number.POSITIVE_INFINITY);
      largest = Math.max(largest, Math.abs(reference[i]));
      dot += ours[i] * reference[i];
      a2 += ours[i] ** 2;
      b2 += reference[i] ** 2;
      error2 += (ours[i] - reference[i]) ** 2;
    }
    // Two vectors that both lie within the absolute tolerance of zero have no direction to compare.
    const direction = reference.length > 1 && largest > ABSOLUTE;
    const cosine = direction ? dot / Math.sqrt(a2 * b2) : Number.NaN;
    const norms = { errorNorm: Math.sqrt(error2), norm: Math.sqrt(b2) };
    const share = shareOfBound(this.dtype, group, { maxError, ...norms, cosine, largest });
    this.comparisons.push({ name, group, maxError, share, cosine, pass: share <= 1, judged });
  }

  /** Names in the file that nothing was compared with, inputs of the case left aside. */
  left(inputs: RegExp): string[] {
    return [...this.file.tensors.tensors.keys()].filter((name) => !this.seen.has(name) && !inputs.test(name));
  }
}

// --- Configurations as the cases write them ----------------------------------------------------------------------

interface CaseVit {
  readonly arch: string;
  readonly img_size: number;
  readonly patch_size: number;
  readonly embed_dim: number;
  readonly depth: number;
  readonly num_heads: number;
  readonly mlp_ratio?: number;
  readonly ffn_layer: string;
  readonly num_register_tokens: number;
  readonly interpolate_antialias: boolean;
  readonly interpolate_offset: number;
  readonly drop_path_rate?: number;
  readonly drop_path_uniform?: boolean;
}

function vitConfigOf(config: CaseVit): VitConfig {
  const named = (VIT_SIZES as Record<string, (typeof VIT_SIZES)[keyof typeof VIT_SIZES]>)[config.arch];
  if (!named && config.arch !== 'custom') throw new DataError(`the case names an unknown architecture ${config.arch}`);
  const size = named ?? {
    embedDim: config.embed_dim,
    depth: config.depth,
    numHeads: config.num_heads,
    mlpRatio: config.mlp_ratio ?? 4,
  };
  return {
    imageSize: config.img_size,
    patchSize: config.patch_size,
    ...size,
    feedForward: feedForwardNamed(config.ffn_layer),
    qkvBias: true,
    projBias: true,
    ffnBias: true,
    layerScale: 1,
    registers: config.num_register_tokens,
    interpolateOffset: config.interpolate_offset,
    interpolateAntialias: config.interpolate_antialias,
  };
}

function countOf(specs: readonly ParameterSpec[]): number {
  return specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/** One parameter at a time: a network of 1.1 billion never exists twice on the CPU. */
async function fill(
  store: ParameterStore,
  specs: readonly ParameterSpec[],
  seed: number,
  dtype: Storage,
): Promise<void> {
  let pending = 0;
  for (const { name, shape } of specs) {
    const values = goldenParameter(name, shape, seed);
    await store.write(name, values);
    pending += values.byteLength;
    if (pending > 256 * 2 ** 20) {
      await store.gpu.finish();
      pending = 0;
    }
  }
  if (dtype === 'f16') {
    store.makeHalf();
    await store.refreshHalf();
  }
}

/** The rows of a matrix of `columns`, side by side. */
function takeRows(matrix: ArrayLike<number>, columns: number, rows: readonly number[]): Float32Array {
  const out = new Float32Array(rows.length * columns);
  rows.forEach((row, r) => {
    for (let c = 0; c < columns; c++) out[r * columns + c] = matrix[row * columns + c];
  });
  return out;
}

/** Mean over consecutive blocks of `length` rows: [blocks, columns]. */
function blockMeans(matrix: ArrayLike<number>, columns: number, length: number): Float64Array {
  const blocks = matrix.length / (columns * length);
  const out = new Float64Array(blocks * columns);
  for (let b = 0; b < blocks; b++) {
    for (let r = 0; r < length; r++) {
      for (let c = 0; c < columns; c++) out[b * columns + c] += matrix[(b * length + r) * columns + c] / length;
    }
  }
  return out;
}

// --- The kinds ---------------------------------------------------------------------------------------------------

async function runBackbone(gpu: Gpu, file: CaseFile, comparer: Comparer): Promise<void> {
  const { sizes, layers, batch, masks, first_patches } = file.json as unknown as {
    sizes: [number, number][];
    layers: number[] | null;
    batch: number;
    masks: boolean;
    first_patches: number | null;
  };
  const config = vitConfigOf(file.json.config as CaseVit);
  const specs = vitParameters(config);
  const store = new ParameterStore(gpu, 'golden', specs);
  try {
    await fill(store, specs, file.seed, comparer.dtype);
    const weights = weightsOf(store);
    for (const [height, width] of sizes) {
      const size = `${height}x${width}`;
      const patches = (height / config.patchSize) * (width / config.patchSize);
      const program = new Program(gpu, `${size} features`);
      const graph = new Graph(program, comparer.dtype);
      const shape = [batch, 3, height, width];
      const pixels = program.input('image', shape);
      program.write(pixels, goldenImage(`image.${size}`, shape, file.seed));
      let mask: Tensor | undefined;
      if (masks) {
        mask = program.input('mask', [batch, patches], 'u32');
        program.write(mask, Uint32Array.from(file.tensors.float64(`${size}.masks`)));
      }
      const result = vitForward(graph, config, weights, [{ pixels, count: batch, height, width, mask }], {
        layers: layers ?? [],
      });
      const normed = program.keep(finalNorm(graph, weights, result.tokens));
      program.keep(result.tokens);
      const perLayer = [...result.layers].map(
        ([i, tokens]) => [i, program.keep(finalNorm(graph, weights, tokens))] as const,
      );
      await program.compile();
      program.run();
      const D = config.embedDim;
      const { sequences } = result;
      const length = sequences[0].length;
      const cls = tokenRows(sequences, 0, 0);
      const patchRowsOf = patchRows(config, sequences, 0);
      const shown = patchRowsOf.filter((_, i) => first_patches === null || i % patches < first_patches);
      const x = await program.read(normed);
      comparer.compare(`${size}.cls`, 'cls', takeRows(x, D, cls));
      comparer.compare(`${size}.patches`, 'patches', takeRows(x, D, shown));
      if (config.registers > 0 && comparer.has(`${size}.registers`)) {
        const rows = cls.flatMap((row) => Array.from({ length: config.registers }, (_, r) => row + 1 + r));
        comparer.compare(`${size}.registers`, 'registers', takeRows(x, D, rows));
      }
      comparer.compare(
        `${size}.prenorm_mean`,
        'prenorm_mean',
        blockMeans(await program.read(result.tokens), D, length),
      );
      comparer.compare(`${size}.patches_mean`, 'patches_mean', blockMeans(takeRows(x, D, patchRowsOf), D, patches));
      for (const [i, tensor] of perLayer) {
        const y = await program.read(tensor);
        comparer.compare(`${size}.layer${i}.patches`, 'intermediate layers', takeRows(y, D, shown));
        comparer.compare(`${size}.layer${i}.cls`, 'intermediate layers', takeRows(y, D, cls));
      }
      program.dispose();
    }
  } finally {
    store.dispose();
  }
}

async function runBackboneGrad(gpu: Gpu, file: CaseFile, comparer: Comparer): Promise<void> {
  const { size, batch } = file.json as unknown as { size: [number, number]; batch: number };
  const config = vitConfigOf(file.json.config as CaseVit);
  const [height, width] = size;
  const specs = vitParameters(config);
  const store = new ParameterStore(gpu, 'golden', specs);
  const gradients = store.like('golden gradients');
  store.trainable(gradients);
  const program = new Program(gpu, 'backbone gradient');
  try {
    await fill(store, specs, file.seed, comparer.dtype);
    const graph = new Graph(program, comparer.dtype);
    const weights = weightsOf(store);
    const shape = [batch, 3, height, width];
    const pixels = program.input('image', shape);
    program.write(pixels, goldenImage(`image.${height}x${width}`, shape, file.seed));
    const { tokens, sequences } = vitForward(graph, config, weights, [{ pixels, count: batch, height, width }]);
    const normed = finalNorm(graph, weights, tokens);
    const D = config.embedDim;
    const seed = new Float32Array(normed.elements);
    const scatter = (rows: readonly number[], values: Float32Array): void =>
      rows.forEach((row, r) => {
        seed.set(values.subarray(r * D, (r + 1) * D), row * D);
      });
    const patches = patchRows(config, sequences, 0);
    scatter(tokenRows(sequences, 0, 0), goldenImage('dloss.cls', [batch, D], file.seed));
    scatter(patches, goldenImage('dloss.patches', [batch, patches.length / batch, D], file.seed));
    const upstream = program.input('dloss', normed.shape, normed.dtype);
    program.write(upstream, seed);
    graph.backward([[normed, upstream]]);
    await program.compile();
    program.run();
    for (const [name, values] of await gradients.readAll()) {
      if (comparer.has(name)) comparer.compare(name, 'gradients', values);
    }
  } finally {
    program.dispose();
    store.dispose();
    gradients.dispose();
  }
}

interface CaseStep {
  readonly lr: number;
  readonly wd: number;
  readonly last_layer_lr: number;
  readonly momentum: number;
  readonly teacher_temp: number;
  readonly upperbound: number;
}

function sslConfigOf(file: CaseFile): { config: SslConfig; steps: CaseStep[]; clipGrad: number } {
  const json = file.json as unknown as {
    config: CaseVit;
    crops: { n_local: number; global: number; local: number };
    batch: number;
    head: { protos: number; bottleneck: number; hidden: number; nlayers?: number };
    centering: 'centering' | 'sinkhorn_knopp';
    separate_head: boolean;
    koleo_weight: number;
    layerwise_decay: number;
    patch_embed_lr_mult: number;
    clip_grad: number;
    betas: [number, number];
    eps: number;
    steps: CaseStep[];
  };
  const vit = vitConfigOf(json.config);
  const head: HeadConfig = {
    inputs: vit.embedDim,
    hidden: json.head.hidden,
    bottleneck: json.head.bottleneck,
    prototypes: json.head.protos,
    layers: json.head.nlayers ?? 3,
  };
  const config: SslConfig = {
    vit,
    dinoHead: head,
    ibotHead: json.separate_head ? head : undefined,
    batch: json.batch,
    localCrops: json.crops.n_local,
    globalSize: json.crops.global,
    localSize: json.crops.local,
    // Shapes are recorded once, for the step with the most room; a smaller step leaves rows unused.
    maskUpperbound: Math.max(...json.steps.map((step) => step.upperbound)),
    dropPathRate: json.config.drop_path_rate ?? 0,
    dropPathUniform: json.config.drop_path_uniform ?? true,
    centering: json.centering,
    dinoWeight: 1,
    ibotWeight: 1,
    koleoWeight: json.koleo_weight,
    studentTemperature: 0.1,
    centerMomentum: 0.9,
    layerwiseDecay: json.layerwise_decay,
    patchEmbedLrMult: json.patch_embed_lr_mult,
    beta1: json.betas[0],
    beta2: json.betas[1],
    epsilon: json.eps,
    pixels: 'floats',
    permutations: 'given',
  };
  return { config, steps: json.steps, clipGrad: json.clip_grad };
}

/** The step's permutations as stored: block by block, attention then feed-forward, global then local group. */
function storedRanks(file: CaseFile, config: SslConfig, step: number): Uint32Array | undefined {
  if (config.dropPathRate <= 0) return undefined;
  const sizes = [2 * config.batch, config.localCrops * config.batch];
  let next = 0;
  const branches = Array.from({ length: 2 * config.vit.depth }, (_, branch) => {
    // A block whose rate is 0 draws nothing: the linear rule gives the first block that.
    const draws = config.dropPathUniform || config.vit.depth === 1 || branch >= 2;
    return sizes.map((size) =>
      draws ? file.tensors.float64(`step${step}.perm${next++}`) : Float64Array.from({ length: size }, (_, i) => i),
    );
  });
  return ranksOfPermutations(branches);
}

async function runSslStep(gpu: Gpu, file: CaseFile, comparer: Comparer, lossTileBytes?: number): Promise<void> {
  const { config: described, steps, clipGrad } = sslConfigOf(file);
  // A scale that no gradient of these small networks overflows with: a skipped step would be another trajectory.
  const config: SslConfig = { ...described, dtype: comparer.dtype, lossTileBytes, initialLossScale: 1024 };
  const trainer = new SslTrainer(gpu, config);
  const specs = sslParameters(config);
  const start = async (of: SslTrainer): Promise<void> => {
    await fill(of.student, specs, file.seed, of.config.dtype ?? 'f32');
    await fill(of.teacher, specs, file.seed + 1, of.config.dtype ?? 'f32');
    await of.compile();
  };
  // KoLeo's gradient jumps where two rows are equally near to a third. In half precision the same steps run in float32
  // beside, to see whether rounding made another neighbour the nearest.
  const single = comparer.dtype === 'f16' ? new SslTrainer(gpu, { ...config, dtype: 'f32' }) : undefined;
  try {
    await start(trainer);
    if (single) await start(single);
    const patches = (config.globalSize / config.vit.patchSize) ** 2;
    const crops = (name: string, count: number, side: number): Float32Array =>
      goldenImage(name, [count, 3, side, side], file.seed);
    for (const [i, step] of steps.entries()) {
      const at = `step${i}`;
      const masks = Uint8Array.from(file.tensors.float64(`${at}.masks`));
      const input: StepInput = {
        globalCrops: crops(`${at}.global`, 2 * config.batch, config.globalSize),
        localCrops: crops(`${at}.local`, config.localCrops * config.batch, config.localSize),
        masks: collateFromMasks(masks, patches, config.maskUpperbound),
        learningRate: step.lr,
        lastLayerLearningRate: step.last_layer_lr,
        weightDecay: step.wd,
        teacherMomentum: step.momentum,
        teacherTemperature: step.teacher_temp,
        clipGrad,
        step: i,
        seed: 0,
        ranks: storedRanks(file, config, i),
      };
      trainer.run(input);
      single?.run(input);
      const log = await trainer.log();
      if (log.skipped)
        throw new DataError(`${at} was skipped: a gradient is not finite at the loss scale of its start`);
      for (const [key, value] of [
        ['dino_local_crops_loss', log.dinoLocalLoss],
        ['dino_global_crops_loss', log.dinoGlobalLoss],
        ['koleo_loss', log.koleoLoss],
        ['ibot_loss', log.ibotLoss],
      ] as const) {
        if (comparer.has(`${at}.loss.${key}`)) comparer.compare(`${at}.loss.${key}`, 'losses', [value]);
      }
      const theirs = await single?.koleoNeighbours();
      const jumped = theirs !== undefined && (await trainer.koleoNeighbours()).some((row, r) => row !== theirs[r]);
      const gradient = (name: string, group: string, ours: ArrayLike<number>): void => {
        if (!comparer.has(name)) return;
        const unjudged = jumped && config.koleoWeight !== 0 && name.includes('.backbone');
        comparer.compare(name, unjudged ? `${group}, KoLeo with another neighbour` : group, ours, !unjudged);
      };
      for (const [module, norm] of Object.entries(log.gradientNorms)) {
        gradient(`${at}.clip_norm.${module}`, 'norms before clipping', [norm]);
      }
      for (const [name, norm] of await trainer.parameterGradientNorms()) {
        gradient(`${at}.grad_norm.${name}`, 'gradient norms', [norm]);
      }
      // The gradients carry the loss scale.
      const scale = log.lossScale!;
      for (const [name, values] of await trainer.gradients.readAll()) {
        const unscaled = Float32Array.from(values.subarray(0, 16), (value) => value / scale);
        gradient(`${at}.grad_head.${name}`, 'gradients', unscaled);
      }
    }
    for (const [network, store] of [
      ['student', trainer.student],
      ['teacher', trainer.teacher],
    ] as const) {
      for (const [name, values] of await store.readAll()) {
        if (comparer.has(`final.${network}.${name}`)) {
          comparer.compare(`final.${network}.${name}`, `final ${network}`, values.subarray(0, 32));
        }
        const sums = `final.${network}_sum.${name}`;
        if (comparer.has(sums)) {
          const sum = values.reduce((a, b) => a + b, 0);
          const absolute = values.reduce((a, b) => a + Math.abs(b), 0);
          // The key bias has a gradient of zero in exact arithmetic, which Adam turns from rounding noise into full steps.
          comparer.compare(sums, `final ${network} sums`, [sum, absolute], !name.endsWith('attn.qkv.bias'));
        }
      }
    }
  } finally {
    trainer.dispose();
    single?.dispose();
  }
}

async function runComponents(gpu: Gpu, file: CaseFile, comparer: Comparer): Promise<void> {
  const { B, K, D } = file.json as unknown as { B: number; K: number; D: number };
  const program = new Program(gpu, 'components');
  const head: HeadConfig = { inputs: D, hidden: 2 * D, bottleneck: D / 2, prototypes: K, layers: 3 };
  const specs = headParameters(head, 'head.');
  const store = new ParameterStore(gpu, 'golden head', specs);
  const gradients = store.like('golden head gradients');
  store.trainable(gradients);
  try {
    await fill(store, specs, file.seed, comparer.dtype);
    const graph = new Graph(program, comparer.dtype);
    const image = (name: string, shape: number[], factor = 1): Tensor =>
      program.constant(
        name,
        shape,
        goldenImage(name, shape, file.seed).map((v) => Math.fround(factor) * v),
      );
    const activation = (name: string, shape: number[]): Tensor => {
      const tensor = program.input(name, shape, comparer.dtype);
      program.write(tensor, goldenImage(name, shape, file.seed));
      tensor.requiresGrad = true;
      return tensor;
    };
    const results = new Map<string, [string, Tensor]>();

    const logits = image('sk.logits', [B, K], 0.3);
    const targetsAt = (value: number): Tensor => {
      const temperature = program.constant('temperature', [1], Float32Array.of(value));
      return wholeTargets(program, sinkhornKnopp(program, { logits: givenLogits(program, logits), temperature }));
    };
    const targets = targetsAt(0.05);
    results.set('sk.out', ['sinkhorn', targets]);
    results.set('sk_ibot.out', ['sinkhorn', targetsAt(0.07)]);

    const one = program.constant('one', [1], Float32Array.of(1));
    // Two student chunks against two teacher halves: every pair, mean over the chunk.
    const half = B / 2;
    const student = image('loss.student', [B, K], 0.5);
    const rowLoss = program.intermediate('row losses', [B]);
    const dstudent = program.intermediate('d_student', [B, K]);
    crossEntropyTile(program, {
      logits: student,
      targets: sumOfViews(program, targets),
      weights: program.constant('weights', [B], new Float32Array(B).fill(1 / half)),
      before: 0,
      temperature: 0.1,
      loss: rowLoss,
      gradient: { upstream: one, term: 0, into: dstudent },
    });
    const points = activation('koleo.x', [B, D]);
    const spread = koleo(graph, points, { rowStart: 0, groups: 1, rowsPerGroup: B });
    const x = activation('head.x', [B, D]);
    const weights = weightsOf(store, 'head.');
    const out = linear(graph, headFeatures(graph, head, weights, x), headPrototypes(graph, weights));
    graph.backward([
      [spread, one],
      [out, activation('head.dy', [B, K])],
    ]);
    const gradientOf = (tensor: Tensor): Tensor => {
      const gradient = graph.gradientOf(tensor);
      if (!gradient) throw new DataError(`no gradient reached ${tensor.name}`);
      return gradient;
    };
    results.set('dino.grad', ['cross-entropy', dstudent]);
    results.set('koleo.loss', ['koleo', spread]);
    results.set('koleo.grad', ['gradient of koleo', gradientOf(points)]);
    results.set('head.out', ['head', out]);
    results.set('head.dx', ['gradients of a head', gradientOf(x)]);
    for (const [, tensor] of results.values()) program.keep(tensor);
    program.keep(rowLoss);
    await program.compile();
    program.run();
    const losses = Float64Array.from(await program.read(rowLoss));
    comparer.compare('dino.loss', 'cross-entropy', [losses.reduce((a, b) => a + b, 0)]);
    for (const [name, [group, tensor]] of results) {
      if (comparer.has(name)) comparer.compare(name, group, await program.read(tensor));
    }
    for (const [name, values] of await gradients.readAll()) {
      const golden = name.replace('head.', 'head.grad.');
      if (comparer.has(golden)) comparer.compare(golden, 'gradients of a head', values);
    }
  } finally {
    program.dispose();
    store.dispose();
    gradients.dispose();
  }
}

function runSchedules(file: CaseFile, comparer: Comparer): void {
  const specs = file.json.spec as Record<string, number>[];
  specs.forEach((spec, i) => {
    const schedule = cosineSchedule({
      baseValue: spec.base_value,
      finalValue: spec.final_value,
      totalIters: spec.total_iters,
      warmupIters: spec.warmup_iters,
      startWarmupValue: spec.start_warmup_value,
      freezeIters: spec.freeze_iters,
    });
    const values = Array.from({ length: spec.total_iters + 3 }, (_, j) => schedule.at(j));
    comparer.compare(`sched${i}`, 'schedules', values);
  });
}

// --- Running a folder --------------------------------------------------------------------------------------------

function parameterCount(file: CaseFile): number {
  if (file.kind === 'backbone' || file.kind === 'backbone_grad') {
    return countOf(vitParameters(vitConfigOf(file.json.config as CaseVit)));
  }
  if (file.kind === 'ssl_step') return countOf(sslParameters(sslConfigOf(file).config));
  return 0;
}

async function openCase(path: string): Promise<CaseFile> {
  const tensors = readSafetensors(await readFile(path));
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(tensors.metadata.case ?? '');
  } catch {
    throw new DataError(`${path} is no golden case: its metadata holds no JSON under "case"`);
  }
  return { kind: String(json.kind), seed: Number(json.seed ?? 0), tensors, json };
}

async function runCase(gpu: Gpu, name: string, path: string, options: ParityOptions): Promise<CaseResult> {
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  let kind = 'unknown';
  let parameters = 0;
  try {
    const file = await openCase(path);
    kind = file.kind;
    parameters = parameterCount(file);
    if (options.maxParams !== undefined && parameters > options.maxParams) {
      const reason = `${parameters} parameters, more than --max-params ${options.maxParams}`;
      return { name, kind, status: 'skipped', reason, parameters, seconds: seconds(), comparisons: [] };
    }
    const comparer = new Comparer(file, options.dtype ?? 'f32');
    if (kind === 'backbone') await runBackbone(gpu, file, comparer);
    else if (kind === 'backbone_grad') await runBackboneGrad(gpu, file, comparer);
    else if (kind === 'ssl_step') await runSslStep(gpu, file, comparer, options.lossTileBytes);
    else if (kind === 'components') await runComponents(gpu, file, comparer);
    else if (kind === 'schedules') runSchedules(file, comparer);
    else throw new DataError(`the kind ${kind} is not known here`);
    const left = comparer.left(/(^|\.)masks$|\.perm\d+$/);
    if (left.length > 0)
      throw new DataError(`${left.length} stored tensors were not compared: ${left.slice(0, 4).join(', ')}`);
    const { comparisons } = comparer;
    const pass = comparisons.every((c) => c.pass || !c.judged);
    return { name, kind, status: pass ? 'pass' : 'fail', parameters, seconds: seconds(), comparisons };
  } catch (error) {
    gpu.check();
    const reason = (error as Error).message;
    return { name, kind, status: 'fail', reason, parameters, seconds: seconds(), comparisons: [] };
  }
}

/** Runs every *.safetensors of a folder as a golden case, in the order of their names. Throws UsageError for a folder without. */
export async function runParity(gpu: Gpu, folder: string, options: ParityOptions = {}): Promise<CaseResult[]> {
  const entries = await readdir(folder).catch((cause: Error) => {
    throw new UsageError(`the folder of golden cases ${folder} cannot be read: ${cause.message}`);
  });
  const files = entries.filter((entry) => entry.endsWith('.safetensors')).sort();
  if (files.length === 0) throw new UsageError(`${folder} holds no golden case (*.safetensors)`);
  const results: CaseResult[] = [];
  for (const file of files) {
    const result = await runCase(gpu, file.replace(/\.safetensors$/, ''), join(folder, file), options);
    results.push(result);
    options.onCase?.(result);
  }
  return results;
}
