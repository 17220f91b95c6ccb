/**
 * The training step as it is written first, to compare `SslTrainer` with: float32, one kernel an operator, crop groups one
 * after the other, attention scores, logits and log-probabilities in memory, every intermediate kept that a backward pass
 * needs, dropped sequences computed and masked, AdamW and the teacher's average apart.
 *
 * It is meant to be a fair opponent: matrix products are the engine's own gemm, elementwise kernels move whole quads, and
 * where the plain way and the engine's are the same thing (embedding, norms, Sinkhorn-Knopp over one tile, KoLeo, clipping)
 * it is the engine's. Inputs, stores, state and log are `SslTrainer`'s: only the recording differs.
 */

import * as dropPathMask from '../../kernels/plain/drop_path_mask.js';
import * as movingAverage from '../../kernels/plain/moving_average.js';
import { type HeadConfig, headLayers, headPrototypes } from '../../src/dinov2/head.js';
import {
  dropPathRates,
  keptSequences,
  type SslConfig,
  type SslInputs,
  SslTrainer,
  STREAM_DROP_PATH,
  type UpdateArguments,
} from '../../src/dinov2/ssl.js';
import { PREFIX } from '../../src/dinov2/network.js';
import type { StepTargets } from '../../src/dinov2/teacher.js';
import { weightsOf } from '../../src/dinov2/vit.js';
import { UsageError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import type { Graph } from '../../src/tensor/graph.js';
import { koleo } from '../../src/tensor/koleo.js';
import { l2Normalize } from '../../src/tensor/l2_normalize.js';
import { featureDeviation, teacherEntropy } from '../../src/tensor/measurements.js';
import type { ParameterStore } from '../../src/tensor/parameters.js';
import { givenLogits } from '../../src/tensor/prototype_logits.js';
import { sumOfViews } from '../../src/tensor/prototype_loss.js';
import { randomRanks, rankPitch } from '../../src/tensor/random.js';
import { sinkhornKnopp, softmaxCenter, type TeacherTargets, wholeTargets } from '../../src/tensor/teacher_targets.js';
import { crossEntropy, type LossTerm } from './cross_entropy.js';
import { gatherRows, matmul, mlp } from './operators.js';
import { type BranchMasks, plainForward } from './vit.js';

/** @throws UsageError for what the plain step does not have */
function supported(config: SslConfig): SslConfig {
  const wants = [
    [config.dtype === 'f16', 'half precision'],
    [config.activationCheckpointing === true, 'activation checkpointing'],
    [(config.accumulate ?? 1) > 1, 'micro-batches'],
  ] as const;
  for (const [wanted, what] of wants) {
    if (wanted) throw new UsageError(`the plain step is float32 and keeps everything: it has no ${what}`);
  }
  return config;
}

/** The teacher's moving average, one dispatch a shard. @param step from `recordClip` */
function recordMovingAverage({ program }: Graph, student: ParameterStore, teacher: ParameterStore, step: Tensor): void {
  student.assertSameLayout(teacher);
  student.shards.forEach(({ tensor }, s) => {
    const plan = movingAverage.plan({ elements: tensor.elements });
    program.dispatch(plan, [tensor, step, teacher.shards[s].tensor]);
  });
}

export class PlainTrainer extends SslTrainer {
  /** Records the step. @throws UsageError for half precision, activation checkpointing or micro-batches */
  constructor(gpu: Gpu, config: SslConfig) {
    super(gpu, supported(config));
  }

  protected override recordTeacher(graph: Graph, inputs: SslInputs): StepTargets {
    const { config, teacher, program } = this;
    const { batch, centerMomentum: momentum } = config;
    const tokens = plainForward(graph, config.vit, weightsOf(teacher, PREFIX.backbone), this.globalGroup(inputs));
    const targets = (logits: Tensor, center: string, count?: Tensor): TeacherTargets => {
      const options = { logits: givenLogits(program, logits), temperature: inputs.temperature, count };
      return config.centering === 'sinkhorn_knopp'
        ? sinkhornKnopp(program, options)
        : softmaxCenter(program, { ...options, center: this.centers.get(center), momentum });
    };
    const { dino, ibot } = this.plainHeads(graph, teacher);
    const index = program.constant('teacher cls rows', [2 * batch], this.globalClsRows);
    const cls = wholeTargets(program, targets(dino(gatherRows(graph, tokens, { index })), 'dino_loss.center'));
    const patches = ibot(gatherRows(graph, tokens, this.maskedRows(inputs)));
    return {
      cls,
      entropy: teacherEntropy(graph, cls),
      patches: targets(patches, 'ibot_patch_loss.center', inputs.maskCount),
    };
  }

  protected override recordStudent(graph: Graph, inputs: SslInputs, targets: StepTargets) {
    const { config, student, program, clsRows, globalClsRows } = this;
    const { batch, vit, koleoWeight } = config;
    const backbone = weightsOf(student, PREFIX.backbone);
    const globals = { ...this.globalGroup(inputs), mask: inputs.masks };
    const locals = this.localGroup(inputs);
    const masks = this.recordMasks(graph, inputs, [globals.count, locals.count]);
    const globalTokens = program.scope('globals', () => plainForward(graph, vit, backbone, globals, masks?.(0)));
    const localTokens = program.scope('locals', () => plainForward(graph, vit, backbone, locals, masks?.(1)));

    const localRows = Uint32Array.from({ length: locals.count }, (_, s) => (s * localTokens.rows) / locals.count);
    const globalCls = gatherRows(graph, globalTokens, {
      index: program.constant('student global cls rows', [globals.count], globalClsRows),
    });
    const localCls = gatherRows(graph, localTokens, {
      index: program.constant('student local cls rows', [locals.count], localRows),
    });
    const patches = gatherRows(graph, globalTokens, this.maskedRows(inputs));

    const { dino: dinoHead, ibot: ibotHead } = this.plainHeads(graph, student);
    const clsTerms: LossTerm[] = [
      // Each local crop is compared with both views: the cross-entropy is linear in its target.
      { logits: dinoHead(localCls), targets: sumOfViews(program, targets.cls), shift: 0 },
      { logits: dinoHead(globalCls), targets: targets.cls, shift: batch },
    ];
    const patchTerm: LossTerm = {
      logits: ibotHead(patches),
      targets: wholeTargets(program, targets.patches),
      shift: 0,
    };
    const seeds: [Tensor, Tensor][] = [];
    const loss = (
      name: string,
      terms: readonly LossTerm[],
      weights: Tensor,
      termWeights: readonly number[],
    ): Tensor => {
      const options = { terms, weights, temperature: config.studentTemperature };
      const value = program.scope(`${name}_loss`, () => crossEntropy(graph, options));
      seeds.push([value, this.seed(graph, Float32Array.from(termWeights))]);
      return value;
    };
    const { dinoWeight, ibotWeight } = config;
    let dino: Tensor;
    let ibot: Tensor | undefined;
    if (!config.ibotHead) {
      dino = loss('dino', [...clsTerms, patchTerm], inputs.weights, [dinoWeight, dinoWeight, ibotWeight]);
    } else {
      const clsWeights = program.constant('cls weights', [clsRows.length], this.clsWeights);
      dino = loss('dino', clsTerms, clsWeights, [dinoWeight, dinoWeight]);
      ibot = loss('ibot', [patchTerm], inputs.weights, [ibotWeight]);
    }
    const neighbours = program.keep(program.intermediate('koleo_neighbours', [globals.count], 'u32'));
    const spread = koleo(graph, globalCls, { rowStart: 0, groups: 2, rowsPerGroup: batch, neighbours });
    if (koleoWeight !== 0) seeds.push([spread, this.seed(graph, Float32Array.of(koleoWeight))]);
    return {
      seeds,
      dino,
      ibot,
      koleo: spread,
      neighbours,
      entropy: targets.entropy,
      deviation: featureDeviation(graph, globalCls, 0, globals.count),
    };
  }

  protected override recordUpdate(graph: Graph, ...[stores, groups, step]: UpdateArguments): void {
    const { teacher, ...own } = stores;
    super.recordUpdate(graph, own, groups, step);
    if (teacher) graph.program.scope('teacher', () => recordMovingAverage(graph, own.student, teacher, step));
  }

  /** The masked patches among the tokens of the global crops. */
  private maskedRows({ teacherRows, maskCount }: SslInputs) {
    const { ibotHead, batch, maskUpperbound } = this.config;
    return { index: teacherRows, from: ibotHead ? 0 : 2 * batch, rows: maskUpperbound, count: maskCount };
  }

  /** From rows of tokens to logits, each call a pass of its own; a shared head is one. */
  private plainHeads(graph: Graph, store: ParameterStore) {
    const head = (name: 'dino' | 'ibot', config: HeadConfig) => {
      const weights = weightsOf(store, PREFIX[name]);
      const inScope = (body: () => Tensor): Tensor => graph.program.scope(`${name}_head`, body);
      const prototypes = inScope(() => headPrototypes(graph, weights));
      return (x: Tensor): Tensor =>
        inScope(() => {
          const features = l2Normalize(graph, mlp(graph, x, headLayers(config, weights)));
          return matmul(graph, features, prototypes);
        });
    };
    const { dinoHead, ibotHead } = this.config;
    const dino = head('dino', dinoHead);
    return { dino, ibot: ibotHead ? head('ibot', ibotHead) : dino };
  }

  /** The masks of every residual branch of a crop group, from the ranks by which `SslTrainer` chooses the rows it computes. */
  private recordMasks(
    graph: Graph,
    inputs: SslInputs,
    sizes: readonly number[],
  ): ((group: number) => BranchMasks) | undefined {
    const { config, program } = this;
    if (config.dropPathRate <= 0) return undefined;
    const branchRates = dropPathRates({ ...config, depth: config.vit.depth }).flatMap((rate) => [rate, rate]);
    const branches = branchRates.length;
    const ranks = inputs.ranks ?? randomRanks(graph, inputs.seed, { branches, sizes, stream: STREAM_DROP_PATH });
    const pitch = rankPitch(sizes);
    const limits = new Uint32Array(branches * pitch * 2);
    branchRates.forEach((rate, branch) => {
      const pairs = sizes.flatMap((count) =>
        new Array<[number, number]>(count).fill([keptSequences(count, rate), count]).flat(),
      );
      limits.set(pairs, branch * pitch * 2);
    });
    const mask = program.intermediate('drop_path_mask', [branches, pitch]);
    const table = program.constant('drop path limits', [branches, pitch, 2], limits);
    program.dispatch(dropPathMask.plan({ elements: mask.elements }), [ranks, table, mask]);
    return (group) => (branch) => {
      if (branchRates[branch] <= 0) return undefined;
      const first = sizes.slice(0, group).reduce((sum, count) => sum + count, 0);
      return { factors: mask.slice(branch * pitch, [pitch]), first };
    };
  }
}
