/**
 * Named configurations: the three that the official repository trains with, and small ones for one machine.
 *
 * The small ones depart from the official recipe where it fails on few pictures and small batches: there the teacher
 * goes uniform and KoLeo takes over. What they share, and why:
 * - prototypes to fit the data (hundreds to a few thousand, not 65,536): a batch of 64 cannot fill more;
 * - Sinkhorn-Knopp centring, which keeps prototypes in use from the first step;
 * - LayerScale that starts at 0.1 or 1, not 1e-5: a short run has no time to grow the branches from nothing;
 * - the maintainers' advice for unstable small runs: half the learning rate, drop path 0.1, AdamW beta2 0.99;
 * - KoLeo light or off: over a small batch its pull is strong and blind.
 */
import { UsageError } from '../errors.js';
import type { PartialConfig } from './config.js';

/** A named configuration: what it changes against the defaults. */
export interface Preset {
  /** One paragraph for `--help` and the documentation. */
  description: string;
  config: PartialConfig;
}

/** Overrides shared by the official ViT-L/14 and ViT-g/14 recipes. */
const OFFICIAL_LONG: PartialConfig = {
  dino: { head_n_prototypes: 131072, head_bottleneck_dim: 384 },
  ibot: { separate_head: true, head_n_prototypes: 131072 },
  teacher: { momentum_teacher: 0.994 },
  optim: { epochs: 500, weight_decay_end: 0.2, base_lr: 2e-4, warmup_epochs: 80, layerwise_decay: 1 },
  crops: { local_crops_size: 98 },
};

/** ViT-S on photographs at 224 px with a batch that one card holds; patch size and crop size are added below. */
const SMALL_224: PartialConfig = {
  dino: { head_n_prototypes: 4096, koleo_loss_weight: 0.02 },
  train: {
    batch_size_per_gpu: 64,
    OFFICIAL_EPOCH_LENGTH: 500,
    centering: 'sinkhorn_knopp',
    checkpoint_period: 1000,
    log_period: 10,
  },
  student: { arch: 'vit_small', drop_path_rate: 0.1, layerscale: 0.1 },
  teacher: { momentum_teacher: 0.994, warmup_teacher_temp_epochs: 20 },
  // Half the official base rate, and a second moment that follows faster: the maintainers' advice for small batches.
  optim: { epochs: 100, base_lr: 0.002, adamw_beta2: 0.99, weight_decay_end: 0.2 },
  evaluation: { resize: 256, crop: 224 },
};

/** All presets by name. */
export const PRESETS: Readonly<Record<string, Preset>> = {
  vitl16_short: {
    description:
      'The official short recipe: ViT-L/16 on ImageNet-1k, 125,000 iterations, centring, 65,536 prototypes. ' +
      'Meant for a total batch of 2,048 (32 times 64).',
    config: { train: { dataset_path: 'ImageNet:split=TRAIN', batch_size_per_gpu: 64 }, student: { block_chunks: 4 } },
  },
  vitl14: {
    description:
      'The official long recipe: ViT-L/14 with SwiGLU on ImageNet-22k, 625,000 iterations, Sinkhorn-Knopp, separate heads of ' +
      '131,072 prototypes. Meant for a total batch of 3,072 (96 times 32).',
    config: {
      ...OFFICIAL_LONG,
      train: { dataset_path: 'ImageNet22k', batch_size_per_gpu: 32, centering: 'sinkhorn_knopp' },
      student: { arch: 'vit_large', patch_size: 14, drop_path_rate: 0.4, ffn_layer: 'swiglufused', block_chunks: 4 },
    },
  },
  vitg14: {
    description:
      'The official recipe of the 1.1-billion-parameter model: as vitl14 with ViT-g/14, 40 blocks of width 1,536. ' +
      'Meant for a total batch of 3,072 (256 times 12).',
    config: {
      ...OFFICIAL_LONG,
      train: { dataset_path: 'ImageNet22k', batch_size_per_gpu: 12, centering: 'sinkhorn_knopp' },
      student: { arch: 'vit_giant2', patch_size: 14, drop_path_rate: 0.4, ffn_layer: 'swiglufused', block_chunks: 4 },
    },
  },
  quickstart: {
    description:
      'Two minutes on a machine without a GPU: 28 px handwritten digits, 4 patches of 14 px, a network of 64 × 2 and heads of 128 ' +
      'prototypes. Shows the whole way from pictures to a report; no flips and no colour, because a mirrored digit is another sign.',
    // Measured on the digits, 300 steps: a cold teacher, a quick average and a strong KoLeo each bring a few points of kNN at
    // this length; patches of 7 px start 24 points lower, and cost three times as much a step.
    config: {
      dino: {
        head_n_prototypes: 128,
        head_bottleneck_dim: 32,
        head_nlayers: 2,
        head_hidden_dim: 64,
        koleo_loss_weight: 0.3,
      },
      train: {
        batch_size_per_gpu: 32,
        OFFICIAL_EPOCH_LENGTH: 40,
        num_workers: 2,
        centering: 'sinkhorn_knopp',
        log_period: 5,
        checkpoint_period: 200,
        eval_period: 100,
      },
      student: {
        arch: 'custom',
        embed_dim: 64,
        depth: 2,
        num_heads: 2,
        mlp_ratio: 4,
        patch_size: 14,
        drop_path_rate: 0,
        layerscale: 1,
      },
      teacher: { momentum_teacher: 0.9, warmup_teacher_temp: 0.005, teacher_temp: 0.01, warmup_teacher_temp_epochs: 3 },
      optim: {
        epochs: 10,
        weight_decay_end: 0.1,
        base_lr: 0.008,
        warmup_epochs: 1,
        freeze_last_layer_epochs: 0.5,
        patch_embed_lr_mult: 1,
        layerwise_decay: 1,
        adamw_beta2: 0.99,
      },
      crops: {
        global_crops_scale: [0.6, 1],
        local_crops_number: 4,
        local_crops_scale: [0.2, 0.6],
        global_crops_size: 28,
        local_crops_size: 14,
        horizontal_flip: 0,
        color_jitter: 0.5,
        saturation: 0,
        hue: 0,
        grayscale: 0,
        blur: [0, 0.3, 0.2],
        blur_sigma: [0.1, 0.8],
        solarize: [0, 0, 0],
      },
      evaluation: { eval_period_iterations: 0, resize: 28, crop: 28 },
    },
  },
  cpu32: {
    description:
      'Any pictures at 32 px on a machine without a GPU: 16 patches of 8 px, a network of 96 × 4, 512 prototypes, batch 64. A few hundred ' +
      'steps on two cores with lavapipe took its teacher 2 to 7 points past the untrained network on rsscn7 and cifar10 (k 10), not on grocery.',
    config: {
      dino: {
        head_n_prototypes: 512,
        head_bottleneck_dim: 64,
        head_hidden_dim: 256,
        head_nlayers: 3,
        koleo_loss_weight: 0.05,
      },
      train: {
        batch_size_per_gpu: 64,
        OFFICIAL_EPOCH_LENGTH: 25,
        num_workers: 1,
        centering: 'sinkhorn_knopp',
        checkpoint_period: 250,
      },
      student: {
        arch: 'custom',
        embed_dim: 96,
        depth: 4,
        num_heads: 3,
        mlp_ratio: 4,
        patch_size: 8,
        drop_path_rate: 0,
        layerscale: 1,
      },
      teacher: { momentum_teacher: 0.99, warmup_teacher_temp: 0.04, teacher_temp: 0.06, warmup_teacher_temp_epochs: 3 },
      optim: {
        epochs: 10,
        base_lr: 0.008,
        weight_decay_end: 0.1,
        warmup_epochs: 1,
        freeze_last_layer_epochs: 0.3,
        patch_embed_lr_mult: 1,
        layerwise_decay: 1,
        adamw_beta2: 0.99,
      },
      crops: {
        local_crops_number: 4,
        global_crops_scale: [0.4, 1],
        local_crops_scale: [0.1, 0.4],
        global_crops_size: 32,
        local_crops_size: 16,
        blur: [0, 0.3, 0.2],
        blur_sigma: [0.1, 1],
      },
      evaluation: { eval_period_iterations: 0, resize: 32, crop: 32 },
    },
  },
  cifar: {
    description:
      'Pictures of 32 px such as CIFAR: 64 patches of 4 px, a network of 192 × 6, batch 128, 1,024 prototypes. ' +
      'Reasoned from the maintainers’ advice for small batches, not yet run to the end.',
    config: {
      dino: { head_n_prototypes: 1024, head_bottleneck_dim: 128, head_hidden_dim: 1024, koleo_loss_weight: 0.02 },
      train: {
        batch_size_per_gpu: 128,
        OFFICIAL_EPOCH_LENGTH: 50,
        num_workers: 4,
        centering: 'sinkhorn_knopp',
        checkpoint_period: 500,
        eval_period: 500,
      },
      student: {
        arch: 'custom',
        embed_dim: 192,
        depth: 6,
        num_heads: 3,
        mlp_ratio: 4,
        patch_size: 4,
        drop_path_rate: 0.1,
        layerscale: 1,
      },
      teacher: { momentum_teacher: 0.99, teacher_temp: 0.06, warmup_teacher_temp_epochs: 20 },
      optim: {
        epochs: 100,
        weight_decay_end: 0.2,
        base_lr: 0.002,
        patch_embed_lr_mult: 1,
        layerwise_decay: 1,
        adamw_beta2: 0.99,
      },
      crops: {
        local_crops_number: 6,
        local_crops_scale: [0.1, 0.4],
        global_crops_size: 32,
        local_crops_size: 16,
        // Nine taps of sigma 2 would wipe out a picture of 32 px.
        blur: [0, 0.3, 0.2],
        blur_sigma: [0.1, 1],
      },
      evaluation: { eval_period_iterations: 0, resize: 32, crop: 32 },
    },
  },
  small96: {
    description:
      'A folder of some thousand photographs at 96 px: 144 patches of 8 px, a network of 192 × 6, batch 64, 2,048 prototypes. ' +
      'Reasoned from the maintainers’ advice for small batches, not yet run to the end.',
    config: {
      dino: { head_n_prototypes: 2048, head_bottleneck_dim: 192, head_hidden_dim: 1024, koleo_loss_weight: 0.02 },
      train: {
        batch_size_per_gpu: 64,
        OFFICIAL_EPOCH_LENGTH: 100,
        num_workers: 4,
        centering: 'sinkhorn_knopp',
        checkpoint_period: 500,
        eval_period: 500,
      },
      student: {
        arch: 'custom',
        embed_dim: 192,
        depth: 6,
        num_heads: 3,
        mlp_ratio: 4,
        patch_size: 8,
        drop_path_rate: 0.1,
        layerscale: 1,
      },
      teacher: { momentum_teacher: 0.99, teacher_temp: 0.06, warmup_teacher_temp_epochs: 20 },
      optim: {
        epochs: 100,
        weight_decay_end: 0.2,
        base_lr: 0.002,
        patch_embed_lr_mult: 1,
        layerwise_decay: 1,
        adamw_beta2: 0.99,
      },
      crops: { local_crops_number: 6, global_crops_size: 96, local_crops_size: 48, blur_sigma: [0.1, 1.5] },
      evaluation: { eval_period_iterations: 0, resize: 112, crop: 96 },
    },
  },
  vits14_224: {
    description:
      'ViT-S/14 from scratch on photographs at 224 px with batch 64, not yet run to the end: half the official learning rate, drop path ' +
      '0.1, AdamW beta2 0.99, 4,096 prototypes, Sinkhorn-Knopp. 50,000 iterations; compress it with train.steps.',
    config: { ...SMALL_224, student: { ...SMALL_224.student, patch_size: 14 }, crops: { local_crops_size: 98 } },
  },
  vits16_224: {
    description:
      'As vits14_224 with patches of 16 px: a quarter fewer tokens, so faster and smaller, features a little coarser.',
    config: { ...SMALL_224, student: { ...SMALL_224.student, patch_size: 16 }, crops: { local_crops_size: 96 } },
  },
};

/** @throws UsageError naming the presets there are. */
export function findPreset(name: string): Preset {
  if (!Object.hasOwn(PRESETS, name)) {
    throw new UsageError(`There is no preset ${name}. Presets: ${Object.keys(PRESETS).join(', ')}.`);
  }
  return PRESETS[name];
}
