/**
 * How each parameter is optimised: layer-wise learning-rate decay, the slower patch embedding, what is exempt from
 * weight decay, and which parameters follow the last-layer schedule. A table by name, so that the optimiser kernel
 * reads one row a parameter and nothing is decided twice.
 */
import { UsageError } from '../errors.js';

/** The sub-modules whose gradients are clipped apart from each other. */
export type Submodule = 'backbone' | 'dino_head' | 'ibot_head';

/** One parameter's row. */
export interface ParameterGroup {
  /** Learning rate = (isLastLayer ? last-layer rate : rate) · lrMultiplier. */
  lrMultiplier: number;
  /** Weight decay = scheduled decay · wdMultiplier; 0 or 1. */
  wdMultiplier: number;
  isLastLayer: boolean;
  module: Submodule;
}

const SUBMODULES: readonly Submodule[] = ['backbone', 'dino_head', 'ibot_head'];
const EMBEDDING_NAMES = ['pos_embed', 'patch_embed', 'mask_token', 'cls_token', 'register_tokens'];

/**
 * The group of every parameter in `names`, in the order given. Names carry their sub-module
 * (`backbone.blocks.0.norm1.weight`, `dino_head.last_layer.weight_g`); chunked block names (`blocks.1.6.…`) are read too.
 *
 * Embeddings are layer 0, block i is layer i + 1, the final norm is layer depth + 1; the multiplier is
 * `layerwiseDecay^(depth + 1 − layer)`. Positional embedding, tokens and the prototypes' `weight_g`/`weight_v` are
 * decayed; biases, norms and LayerScale are not.
 *
 * @throws UsageError for a name outside the three sub-modules or a block beyond `depth`.
 * Source: official `get_params_groups_with_decay`.
 */
export function parameterGroups(
  names: readonly string[],
  depth: number,
  { layerwiseDecay, patchEmbedLrMult }: { layerwiseDecay: number; patchEmbedLrMult: number },
): Map<string, ParameterGroup> {
  const groups = new Map<string, ParameterGroup>();
  for (const name of names) {
    const module = SUBMODULES.find((prefix) => name.startsWith(prefix + '.'));
    if (!module) throw new UsageError(`Parameter "${name}" belongs to none of ${SUBMODULES.join(', ')}.`);
    let lrMultiplier = module === 'backbone' ? layerwiseDecay ** (depth + 1 - layerOf(name, depth)) : 1;
    if (name.includes('patch_embed')) lrMultiplier *= patchEmbedLrMult;
    const undecayed = name.endsWith('.bias') || name.includes('norm') || name.includes('gamma');
    groups.set(name, {
      lrMultiplier,
      wdMultiplier: undecayed ? 0 : 1,
      isLastLayer: name.includes('last_layer'),
      module,
    });
  }
  return groups;
}

function layerOf(name: string, depth: number): number {
  if (EMBEDDING_NAMES.some((part) => name.includes(part))) return 0;
  const block = /\.blocks\.(?:\d+\.)?(\d+)\.\D/.exec(name);
  if (!block) return depth + 1;
  const index = Number(block[1]);
  if (index >= depth) throw new UsageError(`Parameter "${name}" is outside a network of ${depth} blocks.`);
  return index + 1;
}

/**
 * The groups of a backbone that is fine-tuned under a linear head, names without prefix: the multiplier of layer l is
 * `layerwiseDecay^(depth + 1 − l)` for every part of it, patch embedding included, and 1 for the head (`head.weight`,
 * `head.bias`), which starts from nothing. What is exempt from weight decay is exempt here.
 *
 * @throws UsageError for a block beyond `depth`.
 */
export function fineTuneGroups(
  names: readonly string[],
  depth: number,
  layerwiseDecay: number,
): Map<string, Omit<ParameterGroup, 'module'>> {
  const backbone = names.filter((name) => !name.startsWith('head.'));
  const official = parameterGroups(
    backbone.map((name) => `backbone.${name}`),
    depth,
    { layerwiseDecay, patchEmbedLrMult: 1 },
  );
  return new Map(
    names.map((name) => {
      const { lrMultiplier, wdMultiplier } = official.get(`backbone.${name}`) ?? {
        lrMultiplier: 1,
        wdMultiplier: name.endsWith('.bias') ? 0 : 1,
      };
      return [name, { lrMultiplier, wdMultiplier, isLastLayer: false }];
    }),
  );
}
