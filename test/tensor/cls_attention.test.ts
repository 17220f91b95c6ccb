import test from 'tape';
import { GpuError } from '../../src/errors.js';
import { Program } from '../../src/gpu/program.js';
import { clsAttention } from '../../src/tensor/cls_attention.js';
import { Graph } from '../../src/tensor/graph.js';
import { checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/cls_attention.js';

test('clsAttention: the weights of token 0, head by head', async (t) => {
  for (const [count, length, heads, headDim] of [
    [2, 261, 3, 32],
    [3, 50, 1, 64],
    [1, 1, 2, 8],
    [5, 17, 2, 20],
    [1, 257, 1, 128],
  ]) {
    const elements = count * length * 3 * heads * headDim;
    // Scores of a few units: a softmax that is neither uniform nor a single one.
    const data = noise(elements, 7).map((value) => 2 * value);
    await checkOperator(t, {
      name: `clsAttention ${count} × ${length}, ${heads} heads of ${headDim}`,
      inputs: { qkv: { shape: [count * length, 3 * heads * headDim], data, constant: true } },
      build: (graph, { qkv }) => clsAttention(graph, qkv, heads, [{ count, length }]),
      oracle: ({ qkv }) => oracle.clsAttention(qkv, heads, headDim, count, length),
      half: true,
    });
  }
});

test('clsAttention: a group among others', async (t) => {
  const [heads, headDim] = [2, 12];
  const sequences = [
    { count: 3, length: 7 },
    { count: 2, length: 33 },
    { count: 1, length: 1 },
  ];
  const width = 3 * heads * headDim;
  for (const [group, firstRow] of [
    [1, 21],
    [2, 87],
  ]) {
    const { count, length } = sequences[group];
    await checkOperator(t, {
      name: `clsAttention, group ${group}`,
      inputs: { qkv: { shape: [88, width], data: noise(88 * width, 9), constant: true } },
      build: (graph, { qkv }) => clsAttention(graph, qkv, heads, sequences, group),
      oracle: ({ qkv }) => oracle.clsAttention(qkv.subarray(firstRow * width), heads, headDim, count, length),
    });
  }
});

test('clsAttention: refuses what it cannot do', async (t) => {
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const qkv = graph.program.input('qkv', [10, 24]);
  t.throws(() => clsAttention(graph, qkv, 2, [{ count: 3, length: 3 }]), GpuError, 'other rows');
  t.throws(() => clsAttention(graph, qkv, 3, [{ count: 2, length: 5 }]), GpuError, 'heads that do not divide');
  const wide = graph.program.input('wide', [4, 3 * 132]);
  t.throws(() => clsAttention(graph, wide, 1, [{ count: 2, length: 2 }]), /at most 128/, 'heads too wide');
  qkv.requiresGrad = true;
  t.throws(() => clsAttention(graph, qkv, 2, [{ count: 2, length: 5 }]), GpuError, 'a gradient');
});
