/**
 * The configuration of a run: the official keys and defaults, a few keys of our own, and how they come together:
 * default ← preset ← file ← `--set` ← command-line flags. What comes out is resolved (the learning rate is scaled to the
 * batch, a named architecture has its sizes) and written as `config.yaml`, which loads again to the same values.
 *
 * A wrong key or value is refused with its file, line and dotted name, and the nearest key that exists.
 * Source: official `ssl_default_config.yaml`.
 */
import { readFileSync } from 'node:fs';
import {
  Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parse,
  parseDocument,
  visit,
  type YAMLMap,
} from 'yaml';
import { z } from 'zod';
import { trainingLengths } from '../dinov2/schedules.js';
import { UsageError } from '../errors.js';
import { findPreset } from './presets.js';

const positiveInt = z.number().int().positive();
const countInt = z.number().int().nonnegative();
const probability = z.number().min(0).max(1);
const nonNegative = z.number().nonnegative();
const range = z.tuple([nonNegative, nonNegative]);

/** FSDP is how the official code shards over GPUs; the keys are taken so that official files load. */
function fsdpModule(reduceDtype: 'fp16' | 'fp32') {
  const dtype = z.enum(['fp16', 'fp32', 'bf16']);
  return z
    .strictObject({
      sharding_strategy: z.enum(['SHARD_GRAD_OP', 'NO_SHARD', 'FULL_SHARD']).default('SHARD_GRAD_OP'),
      mixed_precision: z
        .strictObject({
          param_dtype: dtype.default('fp16'),
          reduce_dtype: dtype.default(reduceDtype),
          buffer_dtype: dtype.default('fp32'),
        })
        .prefault({}),
    })
    .prefault({});
}

function fsdpNetwork(headReduceDtype: 'fp16' | 'fp32') {
  return z
    .strictObject({
      backbone: fsdpModule('fp16'),
      dino_head: fsdpModule(headReduceDtype),
      ibot_head: fsdpModule(headReduceDtype),
    })
    .prefault({});
}

const headKeys = {
  head_n_prototypes: positiveInt.default(65536).describe('prototypes K; fit them to the data: about its size or less'),
  head_bottleneck_dim: positiveInt.default(256),
  head_nlayers: positiveInt.default(3),
  head_hidden_dim: positiveInt.default(2048),
};

const configSchema = z.strictObject({
  dino: z
    .strictObject({
      loss_weight: nonNegative.default(1),
      ...headKeys,
      koleo_loss_weight: nonNegative.default(0.1).describe('0: off'),
    })
    .prefault({})
    .describe('Loss on the CLS token, and its head.'),
  ibot: z
    .strictObject({
      loss_weight: nonNegative.default(1),
      mask_sample_probability: probability.default(0.5).describe('share of global crops that get a mask'),
      mask_ratio_min_max: z.tuple([probability, probability]).default([0.1, 0.5]).describe('share of patches masked'),
      separate_head: z.boolean().default(false).describe('false: the head of dino is used, the sizes below are not'),
      ...headKeys,
    })
    .prefault({})
    .describe('Loss on masked patches, and its head.'),
  train: z
    .strictObject({
      batch_size_per_gpu: positiveInt.default(64).describe('pictures a step'),
      dataset_path: z.string().default('ImageNet:split=TRAIN').describe('folder or archive of pictures'),
      output_dir: z.string().default('.'),
      saveckp_freq: countInt.default(20).describe('no effect, as in the official code'),
      seed: z.number().int().default(0),
      num_workers: countInt.default(10).describe('decoding threads'),
      OFFICIAL_EPOCH_LENGTH: positiveInt.default(1250).describe('iterations of what is called an epoch below'),
      cache_dataset: z.boolean().default(true).describe('no effect, as in the official code'),
      centering: z.enum(['centering', 'sinkhorn_knopp']).default('centering'),
      steps: countInt
        .default(0)
        .describe(
          'total iterations; everything counted in epochs is compressed to fit. 0: epochs · OFFICIAL_EPOCH_LENGTH',
        ),
      dtype: z
        .enum(['f32', 'f16'])
        .default('f32')
        .describe('storage of activations; f16 takes tensor cores where there are any; weights stay float32'),
      loss_scale: z
        .number()
        .refine(
          (scale) => scale >= 1 && scale <= 2 ** 40 && Number.isInteger(Math.log2(scale)),
          'a power of two from 1 to 2^40',
        )
        .default(65536)
        .describe(
          'f16: what the losses are multiplied by at first; halved by an overflow, doubled after 2,000 clean steps',
        ),
      activation_checkpointing: z
        .boolean()
        .default(false)
        .describe(
          'keep only the input of each block and compute it again for the backward pass: less memory, more work',
        ),
      accumulate: positiveInt
        .default(1)
        .describe(
          'micro-batches of batch_size_per_gpu pictures to an optimizer step; centring, Sinkhorn and KoLeo see one at a time',
        ),
      log_period: positiveInt.default(10).describe('iterations between lines of metrics.jsonl'),
      checkpoint_period: countInt.default(3750).describe('iterations between checkpoints; 0: only at the end'),
      checkpoint_keep: positiveInt.default(3).describe('checkpoints kept'),
      eval_period: countInt.default(0).describe('iterations between kNN evaluations of the teacher; 0: none'),
      eval_train_path: z.string().default('').describe('labelled pictures that kNN votes with'),
      eval_val_path: z.string().default('').describe('labelled pictures that kNN classifies'),
      eval_k: z.array(positiveInt).min(1).default([10, 20, 100, 200]).describe('neighbours'),
    })
    .prefault({}),
  student: z
    .strictObject({
      arch: z.enum(['vit_small', 'vit_base', 'vit_large', 'vit_giant2', 'custom']).default('vit_large'),
      embed_dim: countInt.default(0).describe('these four follow from arch; give them only with arch: custom'),
      depth: countInt.default(0),
      num_heads: countInt.default(0),
      mlp_ratio: nonNegative.default(0),
      patch_size: positiveInt.default(16),
      drop_path_rate: z.number().min(0).lt(1).default(0.3),
      layerscale: nonNegative.default(1e-5).describe('initial value; 0: no LayerScale'),
      drop_path_uniform: z.boolean().default(true),
      pretrained_weights: z.string().default('').describe('backbone to start from'),
      ffn_layer: z.enum(['mlp', 'swiglu', 'swiglufused', 'identity']).default('mlp'),
      block_chunks: countInt.default(0).describe('no effect here: weights are stored flat'),
      qkv_bias: z.boolean().default(true),
      proj_bias: z.boolean().default(true),
      ffn_bias: z.boolean().default(true),
      num_register_tokens: countInt.default(0),
      interpolate_antialias: z.boolean().default(false),
      interpolate_offset: nonNegative.default(0.1),
    })
    .prefault({}),
  teacher: z
    .strictObject({
      momentum_teacher: probability.default(0.992),
      final_momentum_teacher: probability.default(1),
      warmup_teacher_temp: z.number().positive().default(0.04),
      teacher_temp: z.number().positive().default(0.07),
      warmup_teacher_temp_epochs: nonNegative.default(30),
    })
    .prefault({}),
  optim: z
    .strictObject({
      epochs: positiveInt.default(100),
      weight_decay: nonNegative.default(0.04),
      weight_decay_end: nonNegative.default(0.4),
      base_lr: nonNegative.default(0.004).describe('learning rate for a batch of reference_batch'),
      reference_batch: positiveInt.default(1024),
      lr: nonNegative.default(0).describe('what is used; 0: base_lr · sqrt(batch / reference_batch)'),
      warmup_epochs: nonNegative.default(10),
      min_lr: nonNegative.default(1e-6),
      clip_grad: nonNegative.default(3).describe('largest gradient norm of backbone and of each head; 0: no clipping'),
      freeze_last_layer_epochs: nonNegative.default(1),
      scaling_rule: z.literal('sqrt_wrt_1024').default('sqrt_wrt_1024'),
      patch_embed_lr_mult: nonNegative.default(0.2),
      layerwise_decay: z.number().positive().max(1).default(0.9),
      adamw_beta1: z.number().min(0).lt(1).default(0.9),
      adamw_beta2: z.number().min(0).lt(1).default(0.999),
    })
    .prefault({}),
  crops: z
    .strictObject({
      global_crops_scale: range.default([0.32, 1]).describe('share of the area of the picture'),
      local_crops_number: countInt.default(8),
      local_crops_scale: range.default([0.05, 0.32]),
      global_crops_size: positiveInt.default(224).describe('pixels; a multiple of student.patch_size'),
      local_crops_size: positiveInt.default(96).describe('pixels; a multiple of student.patch_size'),
      horizontal_flip: probability
        .default(0.5)
        .describe('from here on: probabilities and strengths, fixed in the official code'),
      color_jitter: probability.default(0.8),
      brightness: nonNegative.default(0.4),
      contrast: nonNegative.default(0.4),
      saturation: nonNegative.default(0.2),
      hue: z.number().min(0).max(0.5).default(0.1),
      grayscale: probability.default(0.2),
      blur: z
        .tuple([probability, probability, probability])
        .default([0, 0.9, 0.5])
        .describe('global crop 1, global crop 2, local crops; effective values of the released weights'),
      blur_sigma: range.default([0.1, 2]).describe('pixels; 9 taps'),
      solarize: z.tuple([probability, probability, probability]).default([0, 0.2, 0]),
    })
    .prefault({})
    .describe('Multi-crop and its augmentation.'),
  evaluation: z
    .strictObject({
      eval_period_iterations: countInt.default(12500).describe('iterations between exports of the teacher; 0: none'),
      resize: positiveInt.default(256).describe('shorter edge before the centre crop, pixels'),
      crop: positiveInt.default(224).describe('centre crop, pixels'),
    })
    .prefault({})
    .describe('Also how pictures are prepared for the periodic kNN of train.eval_period.'),
  distill: z
    .strictObject({
      teacher: z.string().default('').describe('frozen teacher: run, checkpoint or .safetensors; empty: none'),
      teacher_num_heads: countInt.default(0).describe('its attention heads, where neither a run nor heads of 64 tell'),
      heads: z.string().default('').describe('file of its projection heads, where they lie apart'),
      teacher_sha256: z.string().default('').describe('filled in: a run goes on with the teacher it began with'),
      stage: z
        .enum(['students', 'heads'])
        .default('students')
        .describe('heads: only heads on its backbone are trained'),
      head_steps: countInt
        .default(0)
        .describe('steps to train its heads for, where it has none; 0: a quarter of the run'),
    })
    .prefault({})
    .describe('A frozen teacher in place of the student’s own average: webdino distill.'),
  MODEL: z
    .strictObject({ WEIGHTS: z.string().default('').describe('no effect here') })
    .prefault({})
    .describe('Official key, taken so that official files load.'),
  compute_precision: z
    .strictObject({
      grad_scaler: z.boolean().default(true).describe('loss scaling, where train.dtype is f16'),
      teacher: fsdpNetwork('fp16'),
      student: fsdpNetwork('fp32'),
    })
    .prefault({})
    .describe('FSDP sharding and its dtypes have no effect here (one process holds the whole model): see train.dtype.'),
});

/** A configuration with every key present and every derived value filled in. */
export type ResolvedConfig = z.output<typeof configSchema>;

/** Any part of a configuration, as presets and flags give it. */
export type PartialConfig = DeepPartial<ResolvedConfig>;

type DeepPartial<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

/** Sizes of the named architectures. Source: the specification's table of variants. */
export const ARCHITECTURES = {
  vit_small: { embed_dim: 384, depth: 12, num_heads: 6, mlp_ratio: 4 },
  vit_base: { embed_dim: 768, depth: 12, num_heads: 12, mlp_ratio: 4 },
  vit_large: { embed_dim: 1024, depth: 24, num_heads: 16, mlp_ratio: 4 },
  vit_giant2: { embed_dim: 1536, depth: 40, num_heads: 24, mlp_ratio: 4 },
} as const;

/** Where a configuration comes from; later ones win in the order of the fields. */
export interface ConfigSources {
  /** A name of `PRESETS`. */
  preset?: string;
  /** Path of a YAML file. */
  file?: string;
  /** Of several students: a name of `PRESETS` or a path of a YAML file, over the ones above. */
  student?: string;
  /** `a.b=value` strings; the value is YAML. */
  set?: readonly string[];
  /** What other command-line flags say. */
  overrides?: PartialConfig;
  /** Processes training together: the batch that the learning rate is scaled to is this many times larger. Default 1. */
  worldSize?: number;
}

type Value = string | number | boolean | null | Value[] | { [key: string]: Value };
type Section = { [key: string]: Value };

/** Where a dotted key was given, as a person would say it: "run.yaml, line 3", "--set". */
type Origins = Map<string, string>;

interface Layer {
  /** Dotted leaf keys with their values, in the order given. */
  entries: { key: string; value: Value; origin: string }[];
}

/**
 * Brings the sources together and checks them.
 *
 * A layer that names an architecture replaces all four sizes of an earlier one; a learning rate that the scaling rule
 * filled in follows when a later layer changes the batch size or the base rate, one given by hand stays.
 *
 * @throws UsageError naming place, key and cure for an unknown preset or key, a wrong type or a value out of range.
 */
export function loadConfig(sources: ConfigSources = {}): ResolvedConfig {
  const { preset, file, student, set = [], overrides, worldSize = 1 } = sources;
  const config = configSchema.parse({}) as Section;
  const origins: Origins = new Map();
  const applyPreset = (name: string) =>
    apply(config, layerOfObject(findPreset(name).config, `preset ${name}`), origins, worldSize);
  const applyFile = (path: string) => apply(config, layerOfYaml(readConfigFile(path), path), origins, worldSize);
  if (preset !== undefined) applyPreset(preset);
  if (file !== undefined) applyFile(file);
  if (student !== undefined) (/\.ya?ml$/.test(student) ? applyFile : applyPreset)(student);
  if (set.length > 0) apply(config, { entries: set.flatMap((text) => layerOfSet(text).entries) }, origins, worldSize);
  if (overrides) apply(config, layerOfObject(overrides, 'command line'), origins, worldSize);
  return resolveConfig(checkTypes(config, origins), origins, worldSize);
}

/** The learning rate that the scaling rule gives: base_lr · sqrt(pictures to an optimizer step / reference_batch). */
export function scaledLearningRate(config: ResolvedConfig, worldSize = 1): number {
  const { optim, train } = config;
  return optim.base_lr * Math.sqrt((train.batch_size_per_gpu * train.accumulate * worldSize) / optim.reference_batch);
}

/**
 * The configuration as YAML, every key in a fixed order with short comments; it runs as it is, and loads to the same values.
 */
export function configToYaml(config: ResolvedConfig): string {
  const document = new Document(config);
  const verb = config.distill.teacher === '' ? 'train' : 'distill';
  document.commentBefore = ` webdino configuration, resolved. Run it again: webdino ${verb} --config <this file>`;
  visit(document, {
    Seq(_, node) {
      node.flow = true;
    },
    Pair(_, pair, path) {
      if (!isScalar(pair.key)) return;
      const keys = path.flatMap((node) => ('key' in node && isScalar(node.key) ? [String(node.key.value)] : []));
      const name = String(pair.key.value);
      const text = DESCRIPTIONS.get([...keys, name].join('.'));
      if (isMap(pair.value)) {
        if (keys.length === 0 && name !== Object.keys(config)[0]) pair.key.spaceBefore = true;
        if (text) pair.key.commentBefore = ` ${text}`;
      } else if (text && (isScalar(pair.value) || isSeq(pair.value))) pair.value.comment = ` ${text}`;
    },
  });
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

/** JSON Schema of the configuration file, for completion in editors. */
export function configJsonSchema(): unknown {
  return z.toJSONSchema(configSchema, { io: 'input' });
}

/** Every dotted key of the configuration, in order. */
export function configKeys(): string[] {
  return [...LEAF_KEYS];
}

/** The value of a dotted key. */
export function valueAt(config: ResolvedConfig, key: string): unknown {
  return key.split('.').reduce<unknown>((section, name) => (section as Section)[name], config);
}

const DEFAULTS = configSchema.parse({}) as Section;
const LEAF_KEYS = new Set(leafKeys(DEFAULTS, []));
const SECTION_KEYS = new Set([...LEAF_KEYS].flatMap((key) => parentsOf(key)));
const DESCRIPTIONS = describedKeys(configJsonSchema(), []);

function leafKeys(section: Section, path: string[]): string[] {
  return Object.entries(section).flatMap(([name, value]) =>
    isSection(value) ? leafKeys(value, [...path, name]) : [[...path, name].join('.')],
  );
}

function parentsOf(key: string): string[] {
  const parts = key.split('.');
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('.'));
}

function describedKeys(schema: unknown, path: string[]): Map<string, string> {
  const found = new Map<string, string>();
  const { description, properties } = schema as { description?: string; properties?: Record<string, unknown> };
  if (description) found.set(path.join('.'), description);
  for (const [name, child] of Object.entries(properties ?? {})) {
    for (const [key, text] of describedKeys(child, [...path, name])) found.set(key, text);
  }
  return found;
}

function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// Layers

function layerOfObject(part: PartialConfig, origin: string): Layer {
  const entries: Layer['entries'] = [];
  const walk = (section: Section, path: string[]) => {
    for (const [name, value] of Object.entries(section)) {
      if (value === undefined) continue;
      if (isSection(value)) walk(value, [...path, name]);
      else entries.push({ key: [...path, name].join('.'), value, origin });
    }
  };
  walk(part as Section, []);
  return { entries };
}

function readConfigFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`Cannot read the configuration ${path}: ${(cause as Error).message}.`, { cause });
  }
}

function layerOfYaml(text: string, path: string): Layer {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter });
  const [problem] = document.errors;
  if (problem) {
    const line = problem.linePos?.[0].line ?? 1;
    throw new UsageError(`${path}, line ${line}: ${problem.message.split('\n')[0].replace(/ at line \d+.*$/, '')}.`);
  }
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null))
    return { entries: [] };
  if (!isMap(document.contents))
    throw new UsageError(`${path}, line 1: a configuration is a table of "key: value" lines.`);
  const entries: Layer['entries'] = [];
  const walk = (map: YAMLMap, parents: string[]) => {
    for (const { key, value } of map.items) {
      const name = isScalar(key) ? String(key.value) : String(key);
      const offset = isScalar(key) && key.range ? key.range[0] : 0;
      const origin = `${path}, line ${lineCounter.linePos(offset).line}`;
      const dotted = [...parents, name].join('.');
      const node = isAlias(value) ? value.resolve(document) : value;
      // A section left empty ("dino:") says nothing.
      if (SECTION_KEYS.has(dotted) && (node === null || (isScalar(node) && node.value === null))) continue;
      // A table under a section's name is walked, so that a wrong key in it is named with its own line.
      if (isMap(node) && !LEAF_KEYS.has(dotted)) {
        if (!SECTION_KEYS.has(dotted)) throw unknownKey(dotted, origin);
        walk(node, [...parents, name]);
      } else {
        entries.push({
          key: dotted,
          value: isScalar(node) || isSeq(node) || isMap(node) ? node.toJS(document) : null,
          origin,
        });
      }
    }
  };
  walk(document.contents, []);
  return { entries };
}

function layerOfSet(text: string): Layer {
  const split = text.indexOf('=');
  const key = text.slice(0, split).trim();
  if (split < 1 || key === '')
    throw new UsageError(`--set "${text}": write it as key=value, for example optim.epochs=10.`);
  const source = text.slice(split + 1);
  let value: Value;
  try {
    value = source.trim() === '' ? '' : parse(source);
  } catch (cause) {
    throw new UsageError(`--set ${text}: the value is not readable as YAML.`, { cause });
  }
  const origin = `--set ${text}`;
  if (!isSection(value)) return { entries: [{ key, value, origin }] };
  return {
    entries: layerOfObject(value as PartialConfig, origin).entries.map((entry) => ({
      ...entry,
      key: `${key}.${entry.key}`,
    })),
  };
}

/** Writes a layer over the configuration so far; derived values that the layer makes stale are emptied first. */
function apply(config: Section, layer: Layer, origins: Origins, worldSize: number): void {
  for (const { key, origin } of layer.entries) {
    if (!LEAF_KEYS.has(key)) throw unknownKey(key, origin);
  }
  const sets = (...keys: string[]) => layer.entries.some((entry) => keys.includes(entry.key));
  const state = config as unknown as ResolvedConfig;
  const lrIsDerived = state.optim.lr !== 0 && state.optim.lr === scaledLearningRate(state, worldSize);
  if (lrIsDerived && sets('optim.base_lr', 'optim.reference_batch', 'train.batch_size_per_gpu', 'train.accumulate'))
    state.optim.lr = 0;
  if (sets('student.arch')) Object.assign(state.student, { embed_dim: 0, depth: 0, num_heads: 0, mlp_ratio: 0 });
  for (const { key, value, origin } of layer.entries) {
    const path = key.split('.');
    const name = path.pop()!;
    let section = config;
    for (const part of path) section = section[part] as Section;
    // Published configurations name the attention they used in the architecture ("vit_large_memeff").
    section[name] = key === 'student.arch' && typeof value === 'string' ? value.replace(/_memeff$/, '') : value;
    // Taken out first, so that the map's order is the order of giving.
    origins.delete(key);
    origins.set(key, origin);
  }
}

// Checks

function checkTypes(config: Section, origins: Origins): ResolvedConfig {
  const result = configSchema.safeParse(config);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue.path.map(String);
  let depth = path.length;
  while (depth > 0 && !LEAF_KEYS.has(path.slice(0, depth).join('.'))) depth--;
  const key = path.slice(0, depth).join('.');
  const value = path.slice(0, depth).reduce<Value>((section, part) => (section as Section)[part], config);
  const item = depth < path.length ? `element ${Number(path[depth]) + 1} of ` : '';
  throw invalid(origins, key, `${item}${show(value)} ${requirement(issue)}`);
}

function requirement(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.expected === 'int') return 'must be a whole number';
      return `must be ${{ number: 'a number', string: 'text', boolean: 'true or false', array: 'a list', tuple: 'a list' }[issue.expected as string] ?? issue.expected}`;
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}`;
    case 'too_small':
      if (issue.origin === 'array') return `must have at least ${issue.minimum} elements`;
      return `must be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}`;
    case 'too_big':
      if (issue.origin === 'array') return `must have at most ${issue.maximum} elements`;
      return `must be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}`;
    default:
      return `is not valid: ${issue.message}`;
  }
}

/** Fills what follows from other keys and checks what types cannot say. */
function resolveConfig(config: ResolvedConfig, origins: Origins, worldSize: number): ResolvedConfig {
  const { student, optim, crops, ibot, dino, train } = config;
  /** Blames the last given of the keys that do not fit together; the message is about the first. */
  const refuse = (key: string, text: string, ...related: string[]): never => {
    const blamed = [...origins.keys()].filter((given) => given === key || related.includes(given)).at(-1);
    throw invalid(origins, key, text, blamed);
  };
  const sizes = ['embed_dim', 'depth', 'num_heads', 'mlp_ratio'] as const;
  if (student.arch === 'custom') {
    if (student.mlp_ratio === 0) student.mlp_ratio = 4;
    for (const size of sizes) {
      if (student[size] === 0) refuse('student.arch', `custom needs student.${size}`);
    }
  } else {
    const table = ARCHITECTURES[student.arch];
    for (const size of sizes) {
      if (student[size] !== 0 && student[size] !== table[size]) {
        refuse(
          `student.${size}`,
          `${student[size]} does not fit ${student.arch} (${table[size]}). Set student.arch to custom`,
        );
      }
    }
    Object.assign(student, table);
  }
  if (student.embed_dim % student.num_heads !== 0) {
    refuse(
      'student.num_heads',
      `${student.num_heads} heads do not divide student.embed_dim ${student.embed_dim}`,
      'student.embed_dim',
    );
  }
  const patch = student.patch_size;
  const cropKeys =
    crops.local_crops_number > 0
      ? (['global_crops_size', 'local_crops_size'] as const)
      : (['global_crops_size'] as const);
  for (const key of cropKeys) {
    const size = crops[key];
    if (size % patch !== 0) {
      const near = Math.max(1, Math.round(size / patch)) * patch;
      refuse(
        `crops.${key}`,
        `${size} is not a multiple of student.patch_size ${patch}. Try ${near}`,
        'student.patch_size',
      );
    }
  }
  for (const key of ['global_crops_scale', 'local_crops_scale', 'blur_sigma'] as const) {
    if (crops[key][0] > crops[key][1]) refuse(`crops.${key}`, `${show(crops[key])} must go from small to large`);
  }
  for (const key of ['global_crops_scale', 'local_crops_scale'] as const) {
    if (crops[key][0] === 0 || crops[key][1] > 1)
      refuse(`crops.${key}`, `${show(crops[key])} must lie above 0 and at most at 1`);
  }
  if (ibot.mask_ratio_min_max[0] > ibot.mask_ratio_min_max[1]) {
    refuse('ibot.mask_ratio_min_max', `${show(ibot.mask_ratio_min_max)} must go from small to large`);
  }
  if (dino.koleo_loss_weight > 0 && train.batch_size_per_gpu < 2) {
    refuse(
      'train.batch_size_per_gpu',
      '1 leaves KoLeo without neighbours. Use at least 2, or dino.koleo_loss_weight 0',
      'dino.koleo_loss_weight',
    );
  }
  if (config.evaluation.crop > config.evaluation.resize) {
    refuse(
      'evaluation.crop',
      `${config.evaluation.crop} is larger than evaluation.resize ${config.evaluation.resize}`,
      'evaluation.resize',
    );
  }
  if (config.evaluation.crop % patch !== 0) {
    const near = Math.max(1, Math.floor(config.evaluation.crop / patch)) * patch;
    refuse(
      'evaluation.crop',
      `${config.evaluation.crop} is not a multiple of student.patch_size ${patch}. Try ${near}`,
      'student.patch_size',
    );
  }
  const { warmupIters, totalIters } = trainingLengths(config);
  if (warmupIters > totalIters) {
    refuse(
      'optim.warmup_epochs',
      `${optim.warmup_epochs} is longer than the run of ${optim.epochs} epochs. Shorten the warm-up`,
      'optim.epochs',
    );
  }
  if (optim.lr === 0) optim.lr = scaledLearningRate(config, worldSize);
  return config;
}

function invalid(origins: Origins, key: string, text: string, blamed = key): UsageError {
  return new UsageError(`${origins.get(blamed) ?? 'default configuration'}: ${key}: ${text}.`);
}

function unknownKey(key: string, origin: string): UsageError {
  if (SECTION_KEYS.has(key)) {
    const inside = [...LEAF_KEYS]
      .filter((name) => name.startsWith(`${key}.`))
      .map((name) => name.slice(key.length + 1));
    return new UsageError(
      `${origin}: ${key} is a section with the keys ${inside.slice(0, 5).join(', ')}${inside.length > 5 ? ', …' : ''}.`,
    );
  }
  const near = nearestKey(key);
  return new UsageError(`${origin}: there is no key ${key}.${near ? ` Did you mean ${near}?` : ''}`);
}

/** The valid key a person most likely meant: near as a whole, or with the right name in the wrong section. */
function nearestKey(key: string): string | undefined {
  const lastPart = (name: string) => name.slice(name.lastIndexOf('.') + 1);
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(key.length / 3)) + 0.5;
  for (const candidate of [...LEAF_KEYS, ...SECTION_KEYS]) {
    const elsewhere = editDistance(lastPart(key), lastPart(candidate)) * 2 + 0.5;
    const distance = Math.min(editDistance(key, candidate), elsewhere);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions and substitutions between two words (Levenshtein). */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitution, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}

function show(value: unknown): string {
  return value === null || value === undefined ? 'nothing' : JSON.stringify(value);
}
