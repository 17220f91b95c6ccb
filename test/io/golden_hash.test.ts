/** The hash that fills golden cases against numbers printed by its NumPy definition: a few values, and many by checksum. */
import { createHash } from 'node:crypto';
import test from 'tape';
import { fnv1a, goldenImage, goldenParameter, hashUniform } from '../../src/io/golden_hash.js';

/** Float32 values from their shortest decimals. */
const f32 = (...values: number[]): Float32Array => Float32Array.from(values);
const sha256 = (values: Float32Array): string =>
  createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');

test('golden hash: FNV-1a over UTF-8 bytes', (t) => {
  t.equal(fnv1a(''), 2166136261);
  t.equal(fnv1a('sk.logits'), 4188682803);
  t.equal(fnv1a('backbone.blocks.0.attn.qkv.weight'), 1197535139);
  t.equal(fnv1a('é'), 513665217);
  t.end();
});

test('golden hash: uniform values', (t) => {
  t.deepEqual(hashUniform('sk.logits', 4), f32(0.008398533, 0.5191798, 0.6616663, 0.6233672));
  t.deepEqual(hashUniform('sk.logits', 4, 7), f32(0.19767404, -0.2368424, 0.61858296, 0.8265494));
  t.deepEqual(hashUniform('sk.logits', 100001, 3).slice(-2), f32(0.3120191, -0.7773937));
  t.equal(sha256(hashUniform('x', 65536, 9)), 'a52a0b2e6be1bd1165702fa894914b4ef93a25634e0d5ef7d97649d078bc5f13');
  t.end();
});

test('golden hash: parameters by name and shape', (t) => {
  t.deepEqual(goldenParameter('blocks.0.ls1.gamma', [3], 1), f32(0.48078185, 0.60916716, 0.6207749));
  t.deepEqual(goldenParameter('head.last_layer.weight_g', [2, 1]), f32(1, 1));
  t.deepEqual(goldenParameter('blocks.0.attn.proj.bias', [3], 2), f32(0.010683042, -0.033097673, 0.00016414524));
  t.deepEqual(goldenParameter('pos_embed', [1, 2, 2]), f32(0.30349314, 0.15621608, -0.4310211, -0.23044187));
  t.deepEqual(goldenParameter('norm.weight', [3], 5), f32(0.9513578, 0.98505163, 0.9435677));
  const matrix = goldenParameter('blocks.1.mlp.fc1.weight', [2, 3], 1);
  t.deepEqual(matrix.slice(0, 4), f32(-0.03660786, 0.23203659, 0.7303306, 0.5238048));
  const convolution = goldenParameter('patch_embed.proj.weight', [1, 3, 2, 2]);
  t.deepEqual(convolution.slice(0, 4), f32(0.11783004, -0.3977188, 0.1688922, 0.20136869));
  const checksums: [string, number[], string][] = [
    ['blocks.1.mlp.fc1.weight', [257, 33], 'fe5d666e41a63e9f0a9bf70af0d65846828e2b95e304ab8a021914786742dcf7'],
    ['norm.weight', [5000], 'd5934d15cc84d17de023fedfa39ac55d56af4e1be516b7298d5f0ac5f605ce6e'],
    ['a.bias', [5000], 'b7a54e06515249677b4c198f16fadc7cd806c8b2ce108a74d830c63408f6d112'],
  ];
  for (const [name, shape, expected] of checksums) {
    t.equal(sha256(goldenParameter(name, shape, 4)), expected, `${name} [${shape}]`);
  }
  t.end();
});

test('golden hash: images', (t) => {
  const image = goldenImage('step0.global', [2, 1, 2, 1], 1);
  t.deepEqual(image, f32(1.4868302, 0.02835542, -0.40027964, 0.08778262));
  t.equal(sha256(goldenImage('q', [5000], 4)), '6193f7499e3ac4b7b06ef07c3dff0f3ed65274aae230d86fe6537c5b72347b8b');
  t.end();
});
