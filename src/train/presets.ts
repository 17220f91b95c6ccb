/**
 * Named configurations: the three that the official repository trains with, and small ones for one machine.
 *
 * The small ones depart from the official recipe where it fails on few pictures and small batches: there the teacher
 * goes uniform and KoLeo takes over. What the `small` family changes is written where `SMALL` is. `vits14_224` and
 * `vits16_224` stay nearer to the official recipe.
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

/**
 * What the `small` family shares: learning from some thousand pictures in some hundred steps.
 *
 * The official recipe stands still there: its teacher stays near uniform and KoLeo does the work. The numbers below are
 * gains of the teacher's kNN (top-1, k 20) over an untrained network, in points, summed over caltech101, grocery, rsscn7,
 * tinyimagenet and cifar10, after 200 to 300 steps of batch 64 on 18,000 pictures at 32 px (96 × 4, patches of 8 px; PyTorch
 * with the same formulas). Each is one run of one seed: differences below 6 say nothing.
 */
const SMALL = {
  dino: {
    // As many prototypes as a batch of two views can use; they also keep the head cheap.
    head_n_prototypes: 256,
    head_bottleneck_dim: 64,
    head_hidden_dim: 256,
    // 0.3: +1, on an otherwise equal run with 0.05: +23. 0.1: +14 and +16; 0.02 and 0.03: +13 to +22. None: +13, features shrink.
    koleo_loss_weight: 0.03,
  },
  // Off: +19 and +22; 0.3 on a quarter of the crops: +18; the official 1 on half of them: +13 to +23. No clear difference in so
  // short a run; patch features are then by-products of the CLS loss. SMALL_LONG turns it on.
  ibot: { loss_weight: 0, mask_sample_probability: 0 },
  train: { batch_size_per_gpu: 64, centering: 'sinkhorn_knopp' },
  // Branches that start at full strength: with 1e-5 all pictures have the same features at first, and the teacher is uniform.
  student: { arch: 'custom', mlp_ratio: 4, drop_path_rate: 0, layerscale: 1 },
  // A cold teacher that follows quickly: +23, against +10 for 0.04 to 0.06 and momentum 0.99, where its entropy stays at 93 % of
  // ln K; +6 for 0.03 and 0.99. Momentum rises to 1 over the run, so that the end is an average.
  teacher: { momentum_teacher: 0.9, warmup_teacher_temp: 0.01, teacher_temp: 0.02, warmup_teacher_temp_epochs: 3 },
  optim: {
    epochs: 10,
    // 0.002 at batch 64; twice that: +13.
    base_lr: 0.008,
    weight_decay_end: 0.1,
    warmup_epochs: 1,
    freeze_last_layer_epochs: 0.3,
    patch_embed_lr_mult: 1,
    layerwise_decay: 1,
    adamw_beta2: 0.99,
  },
  // Smaller crops (0.25 to 1, 0.05 to 0.25) are no better: +11 to +17. Weaker colour changes help grocery (+5) and cost cifar10 its
  // gain.
  crops: { global_crops_scale: [0.4, 1], local_crops_number: 4, local_crops_scale: [0.1, 0.4] },
} satisfies PartialConfig;

/** Blur for crops of 32 px: nine taps of sigma 2 would wipe out the picture. */
const BLUR_32: PartialConfig['crops'] = { blur: [0, 0.3, 0.2], blur_sigma: [0.1, 1] };

/**
 * The family's recipe for a GPU: more prototypes, a slower average, half the rate for wider networks, and a light iBOT,
 * which a longer run can afford and which patch features need. Reasoned from the runs at 32 px, not measured.
 */
const SMALL_LONG = {
  ...SMALL,
  dino: { ...SMALL.dino, head_n_prototypes: 1024, head_bottleneck_dim: 128, head_hidden_dim: 1024 },
  ibot: { loss_weight: 0.3, mask_sample_probability: 0.25 },
  train: {
    ...SMALL.train,
    batch_size_per_gpu: 128,
    OFFICIAL_EPOCH_LENGTH: 500,
    num_workers: 4,
    checkpoint_period: 500,
    eval_period: 500,
  },
  student: { ...SMALL.student, drop_path_rate: 0.1 },
  teacher: { ...SMALL.teacher, momentum_teacher: 0.96 },
  optim: { ...SMALL.optim, base_lr: 0.004 },
  crops: { ...SMALL.crops, local_crops_number: 6 },
} satisfies PartialConfig;

const SMALL_32: Preset = {
  description:
    'Any pictures at 32 px on a machine without a GPU: 16 patches of 8 px, a network of 96 × 4, 256 prototypes, batch 64, 1,600 steps, ' +
    'about 20 minutes on two cores.',
  config: {
    ...SMALL,
    // 400 steps bring half of what 1,600 bring (bench/RESULTS.md).
    train: { ...SMALL.train, OFFICIAL_EPOCH_LENGTH: 160, num_workers: 1, checkpoint_period: 400 },
    student: { ...SMALL.student, embed_dim: 96, depth: 4, num_heads: 3, patch_size: 8 },
    crops: { ...SMALL.crops, global_crops_size: 32, local_crops_size: 16, ...BLUR_32 },
    evaluation: { eval_period_iterations: 0, resize: 32, crop: 32 },
  },
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
  small32: SMALL_32,
  cpu32: {
    ...SMALL_32,
    description:
      'The former name of small32, so that old commands go on working: the same network, pictures and recipe.',
  },
  small32_large: {
    description:
      'As small32 with a network of 192 × 4, about three times the work: a larger teacher for webdino distill of the same grid of ' +
      'patches. It has been run for 400 steps only, which is too short for a teacher.',
    config: {
      ...SMALL_32.config,
      student: { ...SMALL_32.config.student, embed_dim: 192, num_heads: 3 },
    },
  },
  small32_student: {
    description:
      'For webdino distill with a teacher of small32: a network of 64 × 4, 400 steps, warmer targets and four times the rate that ' +
      'training from scratch bears.',
    config: {
      ...SMALL_32.config,
      train: { ...SMALL_32.config.train, OFFICIAL_EPOCH_LENGTH: 40 },
      student: { ...SMALL_32.config.student, embed_dim: 64, num_heads: 2 },
      // A frozen teacher cannot go uniform, so its targets need not be cold; and they do not run away from a high rate. Sum of kNN
      // (top-1, k 20) over the five sets, 400 steps, one seed: 0.02 and 0.002 as small32: 107.5; 0.05: 114.5; 0.1: 109.8;
      // 0.04 with 0.004: 116.7, with 0.008: 120.4. The same network from scratch: 110.9.
      teacher: { ...SMALL_32.config.teacher, warmup_teacher_temp: 0.04, teacher_temp: 0.04 },
      optim: { ...SMALL_32.config.optim, base_lr: 0.032 },
    },
  },
  cifar: {
    description:
      'Pictures of 32 px such as CIFAR, on a GPU: 64 patches of 4 px, a network of 192 × 6, batch 128, 5,000 steps. ' +
      'The recipe of small32 carried over to a longer run; this size has not been run.',
    config: {
      ...SMALL_LONG,
      student: { ...SMALL_LONG.student, embed_dim: 192, depth: 6, num_heads: 3, patch_size: 4 },
      optim: { ...SMALL_LONG.optim, base_lr: 0.002 },
      crops: { ...SMALL_LONG.crops, global_crops_size: 32, local_crops_size: 16, ...BLUR_32 },
      evaluation: { eval_period_iterations: 0, resize: 32, crop: 32 },
    },
  },
  small64: {
    description:
      'A folder of small pictures at 64 px, on a GPU: 64 patches of 8 px, a network of 192 × 6, batch 128, 5,000 steps. ' +
      'The recipe of small32 carried over to a longer run; this size has not been run.',
    config: {
      ...SMALL_LONG,
      student: { ...SMALL_LONG.student, embed_dim: 192, depth: 6, num_heads: 3, patch_size: 8 },
      crops: {
        ...SMALL_LONG.crops,
        global_crops_size: 64,
        local_crops_size: 32,
        blur: [0, 0.5, 0.3],
        blur_sigma: [0.1, 1.2],
      },
      evaluation: { eval_period_iterations: 0, resize: 64, crop: 64 },
    },
  },
  small96: {
    description:
      'A folder of some thousand photographs at 96 px, on a GPU: 144 patches of 8 px, a network of 192 × 6, batch 64, 5,000 steps. ' +
      'The recipe of small32 carried over to a longer run; this size has not been run.',
    config: {
      ...SMALL_LONG,
      train: { ...SMALL_LONG.train, batch_size_per_gpu: 64 },
      student: { ...SMALL_LONG.student, embed_dim: 192, depth: 6, num_heads: 3, patch_size: 8 },
      crops: { ...SMALL_LONG.crops, global_crops_size: 96, local_crops_size: 48, blur_sigma: [0.1, 1.5] },
      evaluation: { eval_period_iterations: 0, resize: 112, crop: 96 },
    },
  },
  small224: {
    description:
      'A folder of some thousand photographs at 224 px, on a GPU: ViT-S/16, batch 64, 10,000 steps. ' +
      'The recipe of small32 carried over to a longer run; this size has not been run.',
    config: {
      ...SMALL_LONG,
      train: { ...SMALL_LONG.train, batch_size_per_gpu: 64, OFFICIAL_EPOCH_LENGTH: 1000, checkpoint_period: 1000 },
      student: { arch: 'vit_small', patch_size: 16, drop_path_rate: 0.1, layerscale: 1 },
      optim: { ...SMALL_LONG.optim, base_lr: 0.002 },
      crops: { ...SMALL_LONG.crops, global_crops_size: 224, local_crops_size: 96 },
      evaluation: { eval_period_iterations: 0, resize: 256, crop: 224 },
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
