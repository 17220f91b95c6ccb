/** Parameter groups against the multipliers that the reference training steps were made with. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { parameterGroups } from '../../src/dinov2/parameter_groups.js';
import { readSafetensors } from '../../src/io/safetensors.js';

const GOLDENS = fileURLToPath(new URL('../../../shared/goldens/', import.meta.url));
const DECAY = { layerwiseDecay: 0.9, patchEmbedLrMult: 0.2 };

for (const name of ['step_sk', 'step_softmax', 'step_separate_head', 'step_sk_droppath', 'step_long']) {
  test(`parameterGroups: ${name}`, async (t) => {
    const path = `${GOLDENS}${name}.safetensors`;
    if (!existsSync(path)) return t.skip('no ../shared/goldens beside the project');
    const golden = JSON.parse(readSafetensors(readFileSync(path)).metadata.case) as {
      config: { depth: number };
      layerwise_decay: number;
      patch_embed_lr_mult: number;
      param_groups: Record<string, [number, number, boolean]>;
    };
    const names = Object.keys(golden.param_groups);
    const groups = parameterGroups(names, golden.config.depth, {
      layerwiseDecay: golden.layerwise_decay,
      patchEmbedLrMult: golden.patch_embed_lr_mult,
    });
    const wrong = names.filter((parameter) => {
      const [lr, wd, isLastLayer] = golden.param_groups[parameter];
      const group = groups.get(parameter)!;
      const lrIsRight = Math.abs(group.lrMultiplier - lr) <= 1e-15 * lr;
      const moduleIsRight = parameter.startsWith(group.module + '.');
      return !(lrIsRight && moduleIsRight && group.wdMultiplier === wd && group.isLastLayer === isLastLayer);
    });
    t.deepEqual(wrong, [], `${names.length} parameters`);
    t.ok(names.length > 40);
  });
}

test('parameterGroups: ViT-L with decay 0.9', async (t) => {
  const names = [
    'patch_embed.proj.weight',
    'cls_token',
    'register_tokens',
    'blocks.0.attn.qkv.weight',
    'blocks.23.ls2.gamma',
    'norm.weight',
  ];
  const groups = parameterGroups(
    names.map((name) => `backbone.${name}`),
    24,
    DECAY,
  );
  const multipliers = [...groups.values()].map((group) => group.lrMultiplier.toFixed(6));
  t.deepEqual(multipliers, ['0.014358', '0.071790', '0.071790', '0.079766', '0.900000', '1.000000']);
  t.deepEqual(
    [...groups.values()].map((group) => group.wdMultiplier),
    [1, 1, 1, 1, 0, 0],
  );
});

test('parameterGroups: chunked names, heads, and names that fit nowhere', async (t) => {
  const groups = parameterGroups(
    ['backbone.blocks.1.6.mlp.fc1.weight', 'ibot_head.last_layer.weight_g', 'dino_head.mlp.0.bias'],
    12,
    DECAY,
  );
  t.equal(groups.get('backbone.blocks.1.6.mlp.fc1.weight')!.lrMultiplier, 0.9 ** 6);
  t.deepEqual(groups.get('ibot_head.last_layer.weight_g'), {
    lrMultiplier: 1,
    wdMultiplier: 1,
    isLastLayer: true,
    module: 'ibot_head',
  });
  t.deepEqual(groups.get('dino_head.mlp.0.bias'), {
    lrMultiplier: 1,
    wdMultiplier: 0,
    isLastLayer: false,
    module: 'dino_head',
  });
  t.throws(() => parameterGroups(['head.weight'], 12, DECAY), /belongs to none of backbone, dino_head, ibot_head/);
  t.throws(() => parameterGroups(['backbone.blocks.12.norm1.bias'], 12, DECAY), /outside a network of 12 blocks/);
});
