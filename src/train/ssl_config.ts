/** From the configuration a person writes to what the network, the step, the crops and the masks are made with. */

import type { CropSettings } from '../data/augment.js';
import type { HeadConfig } from '../dinov2/head.js';
import { type MaskSettings, maskUpperbound } from '../dinov2/masking.js';
import type { SslConfig } from '../dinov2/ssl.js';
import { feedForwardNamed, type VitConfig } from '../dinov2/vit.js';
import { UsageError } from '../errors.js';
import type { ResolvedConfig } from './config.js';

/** Fixed in the official code (spec §2.2, §2.6). */
const STUDENT_TEMPERATURE = 0.1;
const CENTER_MOMENTUM = 0.9;
const ADAM_EPSILON = 1e-8;

/** The backbone. Its position table is made for the global crops. */
export function vitConfig({ student, crops }: ResolvedConfig): VitConfig {
  return {
    imageSize: crops.global_crops_size,
    patchSize: student.patch_size,
    embedDim: student.embed_dim,
    depth: student.depth,
    numHeads: student.num_heads,
    mlpRatio: student.mlp_ratio,
    feedForward: feedForwardNamed(student.ffn_layer),
    qkvBias: student.qkv_bias,
    projBias: student.proj_bias,
    ffnBias: student.ffn_bias,
    layerScale: student.layerscale > 0 ? student.layerscale : undefined,
    registers: student.num_register_tokens,
    interpolateOffset: student.interpolate_offset,
    interpolateAntialias: student.interpolate_antialias,
  };
}

/** The head of DINO or, where it is separate, of iBOT. */
export function headConfig({ student, dino, ibot }: ResolvedConfig, which: 'dino' | 'ibot'): HeadConfig {
  const keys = which === 'dino' ? dino : ibot;
  return {
    inputs: student.embed_dim,
    hidden: keys.head_hidden_dim,
    bottleneck: keys.head_bottleneck_dim,
    prototypes: keys.head_n_prototypes,
    layers: keys.head_nlayers,
  };
}

/** Masks of the global crops of one step. */
export function maskSettings({ train, ibot, crops, student }: ResolvedConfig): MaskSettings {
  const side = crops.global_crops_size / student.patch_size;
  return {
    batch2: 2 * train.batch_size_per_gpu,
    grid: [side, side],
    sampleProbability: ibot.mask_sample_probability,
    ratioMin: ibot.mask_ratio_min_max[0],
    ratioMax: ibot.mask_ratio_min_max[1],
  };
}

/** The crops of one picture. */
export function cropSettings({ crops }: ResolvedConfig): CropSettings {
  const byView = ([global1, global2, local]: readonly [number, number, number]) => ({ global1, global2, local });
  return {
    globalSize: crops.global_crops_size,
    localSize: crops.local_crops_size,
    localCount: crops.local_crops_number,
    globalScale: crops.global_crops_scale,
    localScale: crops.local_crops_scale,
    blurProbability: byView(crops.blur),
    blurSigma: crops.blur_sigma,
    solarizeProbability: byView(crops.solarize),
    flip: crops.horizontal_flip,
    jitterProbability: crops.color_jitter,
    grayscaleProbability: crops.grayscale,
    brightness: crops.brightness,
    contrast: crops.contrast,
    saturation: crops.saturation,
    hue: crops.hue,
  };
}

/**
 * The whole training step.
 * @throws UsageError for what a configuration may say and this program cannot do
 */
export function sslConfig(config: ResolvedConfig): SslConfig {
  const { train, student, dino, ibot, optim, crops } = config;
  if (train.seed < 0) throw new UsageError(`train.seed ${train.seed} must be 0 or more.`);
  if (crops.local_crops_number < 1) throw new UsageError('crops.local_crops_number must be at least 1 for training.');
  return {
    vit: vitConfig(config),
    dinoHead: headConfig(config, 'dino'),
    ibotHead: ibot.separate_head ? headConfig(config, 'ibot') : undefined,
    batch: train.batch_size_per_gpu,
    localCrops: crops.local_crops_number,
    globalSize: crops.global_crops_size,
    localSize: crops.local_crops_size,
    // Room for one patch at least: a recorded step has no empty tensors.
    maskUpperbound: Math.max(maskUpperbound(maskSettings(config)), 1),
    dropPathRate: student.drop_path_rate,
    dropPathUniform: student.drop_path_uniform,
    centering: train.centering,
    dinoWeight: dino.loss_weight,
    ibotWeight: ibot.loss_weight,
    koleoWeight: dino.koleo_loss_weight,
    studentTemperature: STUDENT_TEMPERATURE,
    centerMomentum: CENTER_MOMENTUM,
    layerwiseDecay: optim.layerwise_decay,
    patchEmbedLrMult: optim.patch_embed_lr_mult,
    beta1: optim.adamw_beta1,
    beta2: optim.adamw_beta2,
    epsilon: ADAM_EPSILON,
    dtype: train.dtype,
    initialLossScale: train.loss_scale,
    activationCheckpointing: train.activation_checkpointing,
    accumulate: train.accumulate,
    pixels: 'bytes',
    permutations: 'drawn',
  };
}
