/**
 * The teacher's side of a step (spec §2.2, §2.3, §3.1): its heads' features of the rows that the student is compared with,
 * and the targets made of them. A student's own average and a frozen teacher go the same way.
 */

import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import type { ParameterSpec, ParameterStore } from '../tensor/parameters.js';
import { type PrototypeLogits, prototypeLogits } from '../tensor/prototype_logits.js';
import { sinkhornKnopp, softmaxCenter, type TeacherTargets } from '../tensor/teacher_targets.js';
import { type Network, type NetworkConfig, PREFIX, recordHead } from './network.js';
import { type CropGroup, finalNorm, vitForward, weightsOf } from './vit.js';

/** What the student is compared with. */
export interface StepTargets {
  /** Of the CLS rows, [2B, K]: few rows, read by local and by global crops. */
  readonly cls: Tensor;
  /** Of the patches in the loss, by tiles. */
  readonly patches: TeacherTargets;
  /** Mean entropy of the CLS targets. */
  readonly entropy: Tensor;
}

/** The centres of the softmax centring, [K] each: state beside the parameters. */
export const CENTER = { cls: 'dino_loss.center', patches: 'ibot_patch_loss.center' } as const;

export function centerParameters({ dinoHead, ibotHead }: Omit<NetworkConfig, 'vit'>): ParameterSpec[] {
  return [
    { name: CENTER.cls, shape: [1, dinoHead.prototypes] },
    { name: CENTER.patches, shape: [1, (ibotHead ?? dinoHead).prototypes] },
  ];
}

/** Which token rows go through the heads. */
export interface TeacherRows {
  /** CLS rows of the global crops. */
  readonly cls: Uint32Array;
  /** Patches in the loss, at most. */
  readonly patches: number;
  /** u32: rows of the patches; with a shared head those of CLS before them, since both go through it together. */
  readonly index: Tensor;
}

/** What logits are made of. */
export interface TeacherFeatures {
  readonly cls: PrototypeLogits;
  readonly patches: PrototypeLogits;
}

/** Backbone and heads over the global crops. */
export function recordTeacherFeatures(
  graph: Graph,
  network: Network,
  crops: CropGroup,
  rows: TeacherRows,
): TeacherFeatures {
  const { program } = graph;
  const backbone = weightsOf(network.backbone, PREFIX.backbone);
  const { tokens } = vitForward(graph, network.vit, backbone, [crops]);
  const cls = rows.cls.length;
  const dino = recordHead(graph, network, 'dino');
  const index = network.ibotHead ? program.constant('teacher cls rows', [cls], rows.cls) : rows.index;
  const features = dino.features(finalNorm(graph, backbone, tokens, { index }));
  const clsRows = { features, weight: dino.prototypes, range: { from: 0, rows: cls } };
  if (!network.ibotHead) return { cls: clsRows, patches: { ...clsRows, range: { from: cls, rows: rows.patches } } };
  const ibot = recordHead(graph, network, 'ibot');
  const x = finalNorm(graph, backbone, tokens, { index: rows.index });
  return { cls: clsRows, patches: { features: ibot.features(x), weight: ibot.prototypes } };
}

/** How logits become targets. */
export interface Centring {
  readonly centering: 'centering' | 'sinkhorn_knopp';
  /** f32 [1]: the teacher temperature of this step. */
  readonly temperature: Tensor;
  readonly centers: ParameterStore;
  readonly centerMomentum: number;
  readonly lossTileBytes?: number;
}

/** @param count u32 [1]: how many rows hold something, the first ones; all without it */
export function recordTargets(
  program: Program,
  rows: PrototypeLogits,
  center: keyof typeof CENTER,
  { centering, temperature, centers, centerMomentum, lossTileBytes }: Centring,
  count?: Tensor,
): TeacherTargets {
  const logits = prototypeLogits(program, { ...rows, tileBytes: lossTileBytes });
  const options = { logits, temperature, count };
  return centering === 'sinkhorn_knopp'
    ? sinkhornKnopp(program, options)
    : softmaxCenter(program, { ...options, center: centers.get(CENTER[center]), momentum: centerMomentum });
}
