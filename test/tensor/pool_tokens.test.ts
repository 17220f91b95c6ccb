import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { poolTokens } from '../../src/tensor/pool_tokens.js';
import { checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/probes.js';

for (const [count, length, first, columns] of [
  [1, 2, 1, 4],
  [5, 17, 1, 24],
  [3, 21, 5, 132],
  [2, 257, 1, 64],
]) {
  test(`pool_tokens of ${count} x ${length} tokens, ${first} special, ${columns} wide`, async (t) => {
    await checkOperator(t, {
      hardwareToo: true,
      name: 'pool_tokens',
      inputs: { x: { shape: [count * length, columns], data: noise(count * length * columns, 1) } },
      build: (graph, { x }) => poolTokens(graph, x, { count, length }, first),
      oracle: ({ x }) => oracle.poolTokens(x, { count, length, first, columns }),
      half: true,
    });
  });
}

test('pool_tokens refuses tokens that are no such sequences', async (t) => {
  const program = new Program(await testGpu(), 'pooling refused');
  const x = program.input('x', [10, 8]);
  t.throws(() => poolTokens(new Graph(program), x, { count: 3, length: 4 }, 1), /is not 3 sequences of 4 tokens/);
  t.throws(() => poolTokens(new Graph(program), x, { count: 2, length: 5 }, 5), /5 of them before the patches/);
  program.dispose();
});
