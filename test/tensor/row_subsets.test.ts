import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { randomRanks, SEED_SHAPE, seedWords } from '../../src/tensor/random.js';
import { dropPathRows, invertRows, ranksOfPermutations } from '../../src/tensor/row_subsets.js';
import { NO_ROW } from '../../src/tensor/rows.js';
import { sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/row_subsets.js';

test('drop path rows: permutations from the host', async (t) => {
  const groups = [
    { count: 4, length: 5 },
    { count: 6, length: 3 },
  ];
  const permutations = [
    [
      [2, 0, 3, 1],
      [5, 1, 0, 4, 2, 3],
    ],
    [
      [0, 1, 2, 3],
      [3, 5, 4, 0, 1, 2],
    ],
    [
      [3, 2, 1, 0],
      [0, 1, 2, 3, 4, 5],
    ],
  ];
  const kept = [
    [2, 4],
    [1, 1],
    [4, 6],
  ];
  const program = new Program(await testGpu(), 'drop path');
  const ranks = program.input('ranks', [3, 64], 'u32');
  program.write(ranks, ranksOfPermutations(permutations));
  const subsets = dropPathRows(new Graph(program), ranks, { groups, kept });
  for (const { index, inverse } of subsets) [index, inverse].map((tensor) => program.keep(tensor));
  await program.compile({ guard: true });
  program.run();
  for (const [branch, { index, inverse }] of subsets.entries()) {
    const expected = oracle.keptRows(permutations[branch], groups, kept[branch]);
    t.deepEqual([...(await program.read(index))], expected, `branch ${branch}: rows in the order of the permutation`);
    sameBits(t, await program.read(inverse), oracle.inverse(expected, 38), `branch ${branch}: inverse`);
  }
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
});

test('drop path rows: random ranks, odd sizes', async (t) => {
  const groups = [
    { count: 16, length: 257 },
    { count: 61, length: 50 },
    { count: 1, length: 261 },
  ];
  const rows = 16 * 257 + 61 * 50 + 261;
  const kept = [
    [11, 42, 1],
    [16, 61, 1],
    [1, 1, 1],
    [8, 7, 1],
  ];
  const program = new Program(await testGpu(), 'drop path');
  const graph = new Graph(program);
  const seed = program.input('seed', SEED_SHAPE, 'u32');
  const ranks = randomRanks(graph, seed, { branches: 4, sizes: [16, 61, 1], stream: 2 });
  const subsets = dropPathRows(graph, ranks, { groups, kept });
  for (const { index, inverse } of subsets) [index, inverse].map((tensor) => program.keep(tensor));
  await program.compile({ guard: true });
  const seen = new Set<string>();
  for (const step of [0, 1]) {
    program.write(seed, seedWords(5, step));
    program.run();
    for (const [branch, { index, inverse }] of subsets.entries()) {
      const [indexData, inverseData] = (await program.readAll([index, inverse])) as Uint32Array[];
      const where = `step ${step}, branch ${branch}`;
      t.equal(indexData.length, 257 * kept[branch][0] + 50 * kept[branch][1] + 261, `${where}: rows kept`);
      t.equal(inverseData.length, rows, `${where}: an inverse for every row`);
      t.equal(new Set(indexData).size, indexData.length, `${where}: kept rows are distinct`);
      sameBits(t, inverseData, oracle.inverse(indexData, rows), `${where}: the inverse fits the index`);
      // Whole sequences, token by token, each in its group's part of the kept matrix.
      let at = 0;
      let first = 0;
      let whole = true;
      groups.forEach(({ count, length }, g) => {
        for (let k = 0; k < kept[branch][g]; k++, at += length) {
          const start = indexData[at] - first;
          whole &&= start >= 0 && start < count * length && start % length === 0;
          for (let token = 0; token < length; token++) whole &&= indexData[at + token] === first + start + token;
        }
        first += count * length;
      });
      t.ok(whole, `${where}: whole sequences, group by group`);
      seen.add(indexData.join());
    }
  }
  t.equal(seen.size, 8, 'branches and steps keep different rows');
  t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
  program.dispose();
});

test('invert rows', async (t) => {
  for (const [sourceRows, index, live] of [
    [37, [7, 0, 36, 12, 13], undefined],
    [261, Array.from({ length: 257 }, (_, i) => (i * 5) % 261), undefined],
    [130, [129, 3, 5, 3, 129, 0], 3],
    [64, [9, 9], 0],
    [1, [0], 5],
  ] as const) {
    const program = new Program(await testGpu(), 'invert rows');
    const indexTensor = program.input('index', [index.length], 'u32');
    program.write(indexTensor, Uint32Array.from(index));
    const count = live === undefined ? undefined : program.input('count', [1], 'u32');
    if (count && live !== undefined) program.write(count, Uint32Array.of(live));
    const inverse = program.keep(invertRows(new Graph(program), indexTensor, { sourceRows, count }));
    await program.compile({ guard: true });
    program.run();
    const first = await program.read(inverse);
    sameBits(
      t,
      first,
      oracle.inverse(index.slice(0, live), sourceRows),
      `${index.length} entries (${live ?? 'all'} live) of ${sourceRows} rows`,
    );
    program.run();
    sameBits(t, await program.read(inverse), first, 'the same bits twice');
    t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
    program.dispose();
  }
});

test('row subsets: what they refuse', async (t) => {
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const ranks = graph.program.input('ranks', [2, 64], 'u32');
  const groups = [{ count: 4, length: 5 }];
  t.throws(
    () => dropPathRows(graph, ranks, { groups, kept: [[2], [5]] }),
    /branch 1 keeps 5 of the 4 sequences/,
    'more than there are',
  );
  t.throws(() => dropPathRows(graph, ranks, { groups, kept: [[0], [1]] }), /keeps 0 of the 4/, 'none');
  t.throws(
    () => dropPathRows(graph, ranks, { groups, kept: [[1]] }),
    /1 branches of these groups take \[1,64\]/,
    'ranks of another shape',
  );
  t.throws(() => ranksOfPermutations([[[0, 1, 1]]]), /no permutation of 0 to 2/, 'an item twice');
  t.throws(() => ranksOfPermutations([[[0, 1]], [[0]]]), /no permutation of 0 to 1/, 'an item missing');
  t.deepEqual(
    [...ranksOfPermutations([[[2, 0, 1]]]).slice(0, 4)],
    [1, 2, 0, NO_ROW],
    'ranks are the inverse permutation',
  );
});
