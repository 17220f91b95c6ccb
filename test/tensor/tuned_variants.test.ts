/** Which variant plans take: what is asked for, what was measured, the rule; and the keys of the table. */

import fc from 'fast-check';
import { test } from 'tape';
import * as gemm from '../../kernels/gemm.js';
import { BASELINE_CAPABILITIES, type Capabilities } from '../../src/gpu/capabilities.js';
import {
  type AttentionShape,
  attentionFamilies,
  attentionKey,
  chooseAttention,
  parseAttentionKey,
} from '../../src/tensor/attention.js';
import { TENSOR_CORES } from '../fixture.js';

const CPU: Capabilities = {
  ...BASELINE_CAPABILITIES,
  software: true,
  subgroups: true,
  subgroupMinSize: 8,
  subgroupMaxSize: 8,
};

/** Half operands, wide enough that matrices fit; the rule takes wide tiles. */
const HALF = { layout: 'NT', M: 16448, N: 1536, K: 384, operands: 'f16', result: 'f16' } as const;
const FLOAT = { layout: 'NT', M: 64, N: 64, K: 64 } as const;

function tunedTo(caps: Capabilities, key: string, variant: string): Capabilities {
  return { ...caps, tuned: new Map([[key, variant]]) };
}

test('keys of gemm', (t) => {
  t.equal(gemm.gemmKey(HALF), 'gemm NT f16 f16 16448x1536x384');
  t.equal(gemm.gemmKey(FLOAT), 'gemm NT f32 f32 64x64x64', 'float32 by default');
  t.equal(gemm.gemmKey({ ...FLOAT, parts: 7 }), 'gemm NT f32 f32 64x64x64/7', 'parts of a product');
  t.equal(gemm.splitKey({ ...FLOAT, layout: 'TN' }), 'gemm_split TN f32 f32 64x64x64');
  for (const key of ['gemm', 'gemm XX f16 f16 1x2x3', 'gemm NT f16 f16 1x2', 'attention f16 6x64 2x257']) {
    t.equal(gemm.parseKey(key), undefined, `'${key}' is none`);
  }
  const size = fc.integer({ min: 1, max: 1e6 });
  const storage = fc.constantFrom('f16' as const, 'f32' as const);
  fc.assert(
    fc.property(
      fc.constantFrom('NN' as const, 'NT' as const, 'TN' as const),
      storage,
      storage,
      fc.tuple(size, size, size),
      fc.option(fc.integer({ min: 2, max: 99 })),
      (layout, operands, result, [M, N, K], parts) => {
        const params = { layout, operands, result, M, N, K, ...(parts ? { parts } : {}) };
        const whole = { layout, operands, result, M, N, K };
        const [variant, split] = [gemm.parseKey(gemm.gemmKey(params)), gemm.parseKey(gemm.splitKey(params))];
        return (
          variant?.kind === 'variant' &&
          split?.kind === 'parts' &&
          JSON.stringify(Object.entries(variant.params).sort()) === JSON.stringify(Object.entries(params).sort()) &&
          JSON.stringify(Object.entries(split.params).sort()) === JSON.stringify(Object.entries(whole).sort())
        );
      },
    ),
  );
  t.pass('and back');
  t.end();
});

test('variants of gemm that fit', (t) => {
  t.deepEqual(gemm.variants(HALF, TENSOR_CORES), ['mma', 'mma-narrow', 'direct', 'tiled']);
  t.deepEqual(gemm.variants(FLOAT, TENSOR_CORES), ['direct', 'tiled'], 'matrices take halves');
  t.deepEqual(gemm.variants(HALF, { ...TENSOR_CORES, subgroupMatrices: [] }), ['direct', 'tiled'], 'no matrices');
  t.deepEqual(gemm.variants(HALF, { ...TENSOR_CORES, software: true }), ['direct', 'tiled'], 'not wanted on a CPU');
  t.deepEqual(
    gemm.variants(HALF, { ...TENSOR_CORES, software: true, family: 'mma' }),
    ['mma', 'mma-narrow', 'direct', 'tiled'],
    'unless asked for',
  );
  t.deepEqual(gemm.variants({ ...FLOAT, K: 63 }, TENSOR_CORES), ['tiled'], 'rows that are no quads');
  t.deepEqual(gemm.variants(FLOAT, BASELINE_CAPABILITIES), ['tiled'], 'no subgroups');
  for (const variant of gemm.variants(HALF, TENSOR_CORES)) {
    const { shader } = gemm.plan({ ...HALF, variant }, TENSOR_CORES);
    t.ok(shader.startsWith('gemm'), `${variant}: ${shader}`);
  }
  t.equal(gemm.plan({ ...HALF, variant: 'mma' }, TENSOR_CORES).prelude.COLUMN_TILES, 4, 'the wide tile');
  t.equal(gemm.plan({ ...HALF, variant: 'mma-narrow' }, TENSOR_CORES).prelude.COLUMN_TILES, 3, 'the narrow tile');
  t.end();
});

test('the variant that gemm takes', (t) => {
  const key = gemm.gemmKey(HALF);
  t.equal(gemm.chooseVariant(HALF, TENSOR_CORES), 'mma', 'the rule: matrices');
  t.equal(gemm.chooseVariant({ ...HALF, N: 384 }, TENSOR_CORES), 'mma-narrow', 'the rule: narrow tiles');
  t.equal(gemm.chooseVariant(HALF, CPU), 'direct', 'the rule: a CPU with subgroups');
  t.equal(gemm.chooseVariant(HALF, { ...CPU, subgroups: false }), 'tiled', 'the rule: a CPU without');
  t.equal(gemm.chooseVariant({ ...FLOAT, K: 63 }, CPU), 'tiled', 'the rule: ragged rows');
  t.equal(gemm.chooseVariant(FLOAT, TENSOR_CORES), 'tiled', 'the rule: float32 on a GPU');
  for (const variant of ['mma-narrow', 'direct', 'tiled']) {
    t.equal(gemm.chooseVariant(HALF, tunedTo(TENSOR_CORES, key, variant)), variant, `measured: ${variant}`);
  }
  const tiled = tunedTo(TENSOR_CORES, key, 'tiled');
  t.equal(gemm.chooseVariant({ ...HALF, variant: 'direct' }, tiled), 'direct', 'what is asked for comes first');
  t.equal(gemm.chooseVariant({ ...HALF, M: 16449 }, tiled), 'mma', 'another shape');
  t.equal(gemm.chooseVariant({ ...HALF, result: 'f32' }, tiled), 'mma', 'another storage');
  t.equal(gemm.chooseVariant(HALF, tunedTo(TENSOR_CORES, key, 'wgmma')), 'mma', 'a variant that no longer exists');
  t.equal(gemm.chooseVariant(HALF, tunedTo(CPU, key, 'mma')), 'direct', 'one that does not fit here');
  t.equal(gemm.plan(HALF, tiled).shader, 'gemm.wgsl', 'plans follow');
  t.end();
});

test('the number of parts that K is cut in', (t) => {
  const params = { layout: 'TN', M: 384, N: 384, K: 16448 } as const;
  const key = gemm.splitKey(params);
  const rule = gemm.ruleParts(params, BASELINE_CAPABILITIES);
  t.equal(rule, 7);
  t.equal(gemm.splitK(params, BASELINE_CAPABILITIES), rule, 'the rule');
  t.equal(gemm.splitK(params, tunedTo(BASELINE_CAPABILITIES, key, '5')), 5, 'measured');
  for (const parts of ['0', '-1', '2.5', 'many', '129']) {
    t.equal(gemm.splitK(params, tunedTo(BASELINE_CAPABILITIES, key, parts)), rule, `${parts} parts are none`);
  }
  t.equal(gemm.splitK({ ...params, K: 16449 }, tunedTo(BASELINE_CAPABILITIES, key, '5')), rule, 'another shape');
  t.deepEqual(gemm.splitCandidates(params, BASELINE_CAPABILITIES), [1, 4, 7, 14], 'around the rule');
  t.deepEqual(gemm.splitCandidates({ ...params, K: 50 }, BASELINE_CAPABILITIES), [1], 'a short K');
  const halves = { ...params, operands: 'f16' } as const;
  const tuned = tunedTo(TENSOR_CORES, gemm.gemmKey(halves), 'tiled');
  t.equal(gemm.splitK(halves, tuned), gemm.splitK(halves, TENSOR_CORES), 'the rule does not depend on other entries');
  t.deepEqual(gemm.partsOf({ ...halves, result: 'f16' }, 3), { ...halves, parts: 3, result: 'f32' }, 'parts are sums');
  t.deepEqual(
    gemm.partsOf({ ...halves, result: 'f16' }, 1),
    { ...halves, parts: 1, result: 'f16' },
    'one is the product',
  );
  t.end();
});

const VIT: AttentionShape = {
  storage: 'f16',
  heads: 6,
  headDim: 64,
  sequences: [
    { count: 128, length: 257 },
    { count: 512, length: 50 },
  ],
  gradient: false,
};

test('keys of attention', (t) => {
  t.equal(attentionKey(VIT), 'attention f16 6x64 128x257+512x50');
  t.equal(attentionKey({ ...VIT, gradient: true }), 'attention_gradient f16 6x64 128x257+512x50');
  for (const shape of [VIT, { ...VIT, gradient: true }, { ...VIT, sequences: [{ count: 1, length: 1 }] }]) {
    t.deepEqual(parseAttentionKey(attentionKey(shape)), shape, 'and back');
  }
  for (const key of ['attention', 'attention f16 6x64', 'attention u32 6x64 1x1', 'gemm NT f16 f16 1x2x3']) {
    t.equal(parseAttentionKey(key), undefined, `'${key}' is none`);
  }
  t.end();
});

test('the family that attention takes', (t) => {
  const key = attentionKey(VIT);
  t.deepEqual(attentionFamilies(VIT, 'f16', TENSOR_CORES), ['mma', 'mma-32', 'tiled']);
  const long = { ...VIT, sequences: [{ count: 4, length: 1370 }] };
  t.deepEqual(
    attentionFamilies(long, 'f16', TENSOR_CORES),
    ['mma', 'mma-16', 'tiled'],
    'the rule has wide tiles there',
  );
  t.deepEqual(attentionFamilies(VIT, 'f32', TENSOR_CORES), ['tiled'], 'matrices take halves');
  t.deepEqual(attentionFamilies(VIT, 'f16', CPU), ['direct', 'tiled']);
  t.equal(chooseAttention(VIT, TENSOR_CORES), 'mma', 'the rule');
  for (const family of ['mma-32', 'tiled']) {
    t.equal(chooseAttention(VIT, tunedTo(TENSOR_CORES, key, family)), family, `measured: ${family}`);
  }
  const tiled = tunedTo(TENSOR_CORES, key, 'tiled');
  t.equal(chooseAttention({ ...VIT, gradient: true }, tiled), 'mma', 'with gradient it is another shape');
  t.equal(chooseAttention(VIT, tunedTo(TENSOR_CORES, key, 'mma-64')), 'mma', 'a family that no longer exists');
  t.equal(chooseAttention(VIT, tunedTo(TENSOR_CORES, key, 'direct')), 'mma', 'one that does not fit here');
  t.end();
});

test('a plan depends on its parameters and capabilities alone', (t) => {
  const split = { layout: 'TN', M: 384, N: 384, K: 16448, operands: 'f16' } as const;
  const tuned = new Map([
    [gemm.gemmKey(HALF), 'tiled'],
    [gemm.splitKey(split), '3'],
    [attentionKey(VIT), 'tiled'],
  ]);
  for (const caps of [TENSOR_CORES, { ...TENSOR_CORES, tuned }]) {
    const plans = () => [gemm.plan(HALF, caps), gemm.splitK(split, caps), chooseAttention(VIT, caps)];
    const before = JSON.stringify([...tuned]);
    t.deepEqual(plans(), plans(), caps.tuned ? 'with a table' : 'without one');
    t.equal(JSON.stringify([...tuned]), before, 'the table is only read');
  }
  const [by, without] = [{ ...TENSOR_CORES, tuned }, TENSOR_CORES].map((caps) => gemm.plan(HALF, caps).shader);
  t.notEqual(by, without, 'the two differ');
  t.end();
});
