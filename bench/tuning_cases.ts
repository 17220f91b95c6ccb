/**
 * What `webdino tune` can choose: for a key of the table of tuned variants, the variants and how to run each on the same
 * inputs. And which keys a program asks for: plans look each of their choices up, so a table that notes what it is asked
 * for, given to a dry GPU, knows all of them once the program is recorded.
 */

import * as gemm from '../kernels/gemm.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import { Gpu } from '../src/gpu/device.js';
import { toHalf } from '../src/gpu/half.js';
import type { Program } from '../src/gpu/program.js';
import type { Storage, Tensor } from '../src/gpu/tensor.js';
import {
  type AttentionFamily,
  type AttentionShape,
  attention,
  attentionFamilies,
  attentionFamily,
  parseAttentionKey,
} from '../src/tensor/attention.js';
import { Graph } from '../src/tensor/graph.js';
import { dispatchGemm, dispatchGemmParts } from '../src/tensor/linear.js';
import { totalRows } from '../src/tensor/sequences.js';
import { noise } from '../test/fixture.js';
import { FORWARD_BOUND, HALF_BOUND, HALF_OPERANDS_BOUND } from './comparison.js';

export interface TuningChoice {
  /** As people read it. */
  readonly name: string;
  /** What the table says where this choice wins. */
  readonly entries: Readonly<Record<string, string>>;
  /** Records the work once and returns its results. */
  readonly record: (program: Program, inputs: readonly Tensor[]) => readonly Tensor[];
}

export interface TuningInput {
  readonly shape: readonly number[];
  readonly storage: Storage;
  /** Of random numbers in [-1, 1). */
  readonly scale: number;
}

/** One thing to choose. */
export interface TuningCase {
  readonly key: string;
  readonly inputs: readonly TuningInput[];
  /** Of one application. */
  readonly flops: number;
  readonly choices: readonly TuningChoice[];
  /** Name of the choice that is made without a table. */
  readonly rule: string;
  /** Name of the choice whose results count as right: portable, float32 sums. */
  readonly plain: string;
  /** The largest error of another choice's results, relative to the largest value. */
  readonly bound: number;
}

/** A table that has nothing and notes what it is asked for. */
class AskedKeys extends Map<string, string> {
  readonly keysAsked = new Set<string>();

  override get(key: string): undefined {
    this.keysAsked.add(key);
    return undefined;
  }
}

/**
 * The keys that recording a program asks for, in the order in which it does.
 * @param record is given a dry GPU with the capabilities of `gpu`, without its table
 */
export function keysOf(gpu: Gpu, record: (dry: Gpu) => void): string[] {
  const asked = new AskedKeys();
  record(Gpu.dry({ ...gpu.capabilities, tuned: asked }, gpu.shaders));
  return [...asked.keysAsked];
}

/**
 * The cases behind some keys, without those that leave nothing to choose.
 * @param caps of the adapter; its table plays no role
 */
export function tuningCases(keys: readonly string[], { tuned: _, ...caps }: Capabilities): TuningCase[] {
  // A number of parts is chosen together with the variant of the parts, and so is the variant of the product in one part.
  const split = new Set(
    keys.flatMap((key) => {
      const parsed = gemm.parseKey(key);
      return parsed?.kind === 'parts' ? [gemm.gemmKey(parsed.params)] : [];
    }),
  );
  return keys.flatMap((key) => {
    const product = gemm.parseKey(key);
    const attended = parseAttentionKey(key);
    if (attended) return atLeastTwo(attentionCase(key, attended, caps));
    if (product?.kind === 'parts') return atLeastTwo(splitCase(key, product.params, caps));
    if (!product || product.params.parts || split.has(key)) return [];
    return atLeastTwo(gemmCase(key, product.params, caps));
  });
}

function atLeastTwo(one: TuningCase): TuningCase[] {
  return one.choices.length > 1 ? [one] : [];
}

function gemmInputs({ layout, M, N, K, operands = 'f32' }: gemm.GemmParams): TuningInput[] {
  return [
    { shape: layout === 'TN' ? [K, M] : [M, K], storage: operands, scale: 1 },
    { shape: layout === 'NT' ? [N, K] : [K, N], storage: operands, scale: 1 },
  ];
}

function gemmBound({ operands, result }: gemm.GemmParams): number {
  if (result === 'f16') return HALF_BOUND;
  return operands === 'f16' ? HALF_OPERANDS_BOUND : FORWARD_BOUND;
}

function gemmCase(key: string, params: gemm.GemmParams, caps: Capabilities): TuningCase {
  const { M, N, K } = params;
  return {
    key,
    inputs: gemmInputs(params),
    flops: 2 * M * N * K,
    choices: gemm.variants(params, caps).map((variant) => ({
      name: variant,
      entries: { [key]: variant },
      record: (program, [a, b]) => {
        const out = program.intermediate('product', [M, N], params.result);
        dispatchGemm(program, { ...params, variant }, { a, b, out });
        return [out];
      },
    })),
    rule: gemm.ruleVariant(params, caps),
    plain: 'tiled',
    bound: gemmBound(params),
  };
}

function splitName(variant: gemm.GemmVariant, parts: number): string {
  return parts === 1 ? variant : `${variant}/${parts}`;
}

function splitCase(key: string, params: gemm.GemmParams, caps: Capabilities): TuningCase {
  const { M, N, K, result } = params;
  const candidates = gemm.splitCandidates(params, caps);
  return {
    key,
    inputs: gemmInputs(params),
    flops: 2 * M * N * K,
    choices: gemm.variants(params, caps).flatMap((variant) =>
      candidates.map((parts) => ({
        name: splitName(variant, parts),
        entries: { [key]: String(parts), [gemm.gemmKey(gemm.partsOf(params, parts))]: variant },
        record: (program: Program, [a, b]: readonly Tensor[]) => {
          const out = program.intermediate('product', [M, N], result);
          dispatchGemmParts(program, { ...params, variant }, parts, { a, b, out });
          return [out];
        },
      })),
    ),
    rule: splitName(gemm.ruleVariant(params, caps), gemm.ruleParts(params, caps)),
    plain: 'tiled',
    bound: gemmBound(params),
  };
}

function attentionCase(key: string, shape: AttentionShape, caps: Capabilities): TuningCase {
  const { storage, heads, headDim, sequences, gradient } = shape;
  const rows = totalRows(sequences);
  const width = heads * headDim;
  const pairs = sequences.reduce((sum, { count, length }) => sum + count * length * length, 0);
  return {
    key,
    // Scores of about ±3: a softmax that is neither uniform nor a single one.
    inputs: [
      { shape: [rows, 3 * width], storage, scale: 2 },
      { shape: [rows, width], storage, scale: 1 },
    ],
    flops: (gradient ? 14 : 4) * width * pairs,
    choices: attentionFamilies(shape, storage, caps).map((family: AttentionFamily) => ({
      name: family,
      entries: { [key]: family },
      record: (program, [qkv, upstream]) => {
        const graph = new Graph(program, storage);
        const x = qkv.reshape(qkv.shape);
        x.requiresGrad = gradient;
        const out = attention(graph, x, heads, sequences, family);
        if (!gradient) return [out];
        graph.backward([[out, upstream]]);
        const dx = graph.gradientOf(x);
        return dx ? [out, dx] : [out];
      },
    })),
    rule: attentionFamily(shape, storage, caps),
    plain: 'tiled',
    // The gradient multiplies results that were rounded to halves once more.
    bound: storage === 'f16' ? (gradient ? 3 * HALF_BOUND : HALF_BOUND) : 5 * FORWARD_BOUND,
  };
}

/** Values of a block of random numbers that inputs repeat: a prime, so that no two rows of a matrix are alike. */
const NOISE_PERIOD = 1_000_003;

/** Random numbers for an input, as its bytes. Large ones repeat themselves, or making them would take longer than the tuning. */
export function inputBytes({ shape, storage, scale }: TuningInput, seed: number): Uint8Array {
  const elements = shape.reduce((a, b) => a * b, 1);
  const values = noise(Math.min(elements, NOISE_PERIOD), seed).map((v) => scale * v);
  const stored = storage === 'f16' ? toHalf(values).subarray(0, values.length) : values;
  const block = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
  // Whole words, as buffers have them.
  const bytes = new Uint8Array(4 * Math.ceil((elements * stored.BYTES_PER_ELEMENT) / 4));
  const used = elements * stored.BYTES_PER_ELEMENT;
  for (let at = 0; at < used; at += block.length) bytes.set(block.subarray(0, used - at), at);
  return bytes;
}
