import test from 'tape';
import { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import {
  type Distribution,
  philox4x32,
  randomFill,
  randomRanks,
  randomValues,
  rankPitch,
  seedWords,
  SEED_SHAPE,
} from '../../src/tensor/random.js';
import { NO_ROW } from '../../src/tensor/rows.js';
import { allClose, sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/row_subsets.js';

/** Known answers of Philox-4x32-10 (Random123, kat_vectors): counter, key, result. */
const KNOWN_ANSWERS = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
] as const;

const PHILOX_TEST = `// include lib/philox.wgsl
@group(0) @binding(0) var<storage, read> counters: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> words: array<vec4<u32>>;
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
  words[id.x] = philox4x32(counters[id.x], keys[id.x]);
}`;

test('Philox-4x32-10: known answers on the CPU and on the GPU', async (t) => {
  for (const [counter, key, expected] of KNOWN_ANSWERS) {
    t.deepEqual([...philox4x32(counter, key)], [...expected], `CPU: counter ${counter}, key ${key}`);
  }
  const shared = await testGpu();
  const text = (file: string): string => (file === 'philox_test.wgsl' ? PHILOX_TEST : shared.shaders.text(file));
  const gpu = Gpu.fromDevice(shared.device, { shaders: { text } });
  const program = new Program(gpu, 'philox');
  const count = KNOWN_ANSWERS.length;
  const words = program.keep(program.intermediate('words', [count, 4], 'u32'));
  program.dispatch(
    {
      shader: 'philox_test.wgsl',
      prelude: {},
      grid: [count, 1, 1],
      bindings: ['read', 'read', 'read_write'],
      flops: 0,
      bytes: 0,
    },
    [
      program.constant('counters', [count, 4], Uint32Array.from(KNOWN_ANSWERS.flatMap(([counter]) => [...counter]))),
      program.constant('keys', [count, 2], Uint32Array.from(KNOWN_ANSWERS.flatMap(([, key]) => [...key]))),
      words,
    ],
  );
  await program.compile();
  program.run();
  t.deepEqual(
    [...(await program.read(words))],
    KNOWN_ANSWERS.flatMap(([, , expected]) => [...expected]),
    'GPU',
  );
  program.dispose();
});

/** Fills of one program; `seed` gives the words of each run. */
async function fills(
  cases: readonly { shape: readonly number[]; stream: number; drawn: Distribution }[],
  seeds: readonly Uint32Array[],
): Promise<{ runs: Float32Array[][]; guards: string[] }> {
  const program = new Program(await testGpu(), 'random fill');
  const seed = program.input('seed', SEED_SHAPE, 'u32');
  const tensors = cases.map(({ shape, stream, drawn }, i) => {
    const into = program.keep(program.intermediate(`fill ${i}`, shape));
    randomFill(program, into, seed, stream, drawn);
    return into;
  });
  await program.compile({ guard: true });
  const runs: Float32Array[][] = [];
  for (const words of seeds) {
    program.write(seed, words);
    program.run();
    runs.push((await program.readAll(tensors)) as Float32Array[]);
  }
  const guards = await program.checkGuards();
  program.dispose();
  return { runs, guards };
}

test('random fill: uniform numbers have the bits of the CPU twin', async (t) => {
  const bound = 0.041239;
  const cases = [1, 50, 257, 4 * 64 * 3, 1001].flatMap((elements, i) => [
    { shape: [elements], stream: i, drawn: { distribution: 'uniform', low: 0, high: 1 } as const },
    {
      shape: [elements],
      stream: 0xfffffff0 + i,
      drawn: { distribution: 'uniform', low: -bound, high: bound } as const,
    },
  ]);
  const seeds = [seedWords(0, 0), seedWords(2 ** 53 - 1, 2 ** 32 - 1), seedWords(0, 0)];
  const { runs, guards } = await fills(cases, seeds);
  runs.forEach((values, run) => {
    cases.forEach(({ shape, stream, drawn }, i) => {
      sameBits(
        t,
        values[i],
        randomValues(shape[0], seeds[run], stream, drawn),
        `run ${run}: [${shape}] from ${drawn.low}`,
      );
    });
  });
  t.deepEqual(guards, [], 'nothing written past a tensor');
  const differs = (a: Float32Array, b: Float32Array): boolean => a.filter((v, i) => v === b[i]).length < a.length / 100;
  t.ok(differs(runs[0][8], runs[1][8]), 'another seed and step gives other numbers');
  t.ok(
    differs(
      runs[0][8].map((v) => 2 * bound * (v - 0.5)),
      runs[0][9],
    ),
    'another stream gives other numbers',
  );
});

test('random fill: distributions', async (t) => {
  const count = 40_000;
  const cases = [
    { shape: [count], stream: 5, drawn: { distribution: 'uniform', low: 0, high: 1 } },
    { shape: [count], stream: 6, drawn: { distribution: 'normal', mean: 0, std: 1 } },
    { shape: [5, 7], stream: 7, drawn: { distribution: 'normal', mean: 3, std: 0.02 } },
  ] as const;
  const seed = seedWords(42, 3);
  const {
    runs: [[uniform, normal, small], again],
  } = await fills(cases, [seed, seed]);
  const bins = new Array<number>(100).fill(0);
  for (const v of uniform) bins[Math.floor(v * 100)]++;
  const chiSquare = bins.reduce((sum, n) => sum + (n - count / 100) ** 2 / (count / 100), 0);
  t.ok(
    uniform.every((v) => v >= 0 && v < 1),
    'uniform numbers lie in [0, 1)',
  );
  t.ok(
    chiSquare > 50 && chiSquare < 170,
    `uniform over 100 bins (chi-square ${chiSquare.toFixed(1)}, 99 degrees of freedom)`,
  );
  const moment = (power: number): number => normal.reduce((sum, v) => sum + v ** power, 0) / count;
  for (const [power, expected, bound] of [
    [1, 0, 0.03],
    [2, 1, 0.04],
    [3, 0, 0.08],
    [4, 3, 0.3],
  ]) {
    t.ok(Math.abs(moment(power) - expected) < bound, `moment ${power} of the normal is ${moment(power).toFixed(3)}`);
  }
  const within = normal.filter((v) => Math.abs(v) < 1).length / count;
  t.ok(Math.abs(within - 0.6827) < 0.015, `${(100 * within).toFixed(1)} % lie within one standard deviation`);
  const tail = normal.filter((v) => Math.abs(v) > 3).length / count;
  t.ok(Math.abs(tail - 0.0027) < 0.0013, `${(100 * tail).toFixed(2)} % lie beyond three`);
  const pairs = normal.reduce((sum, v, i) => (i % 2 === 0 ? sum + v * normal[i + 1] : sum), 0) / (count / 2);
  t.ok(Math.abs(pairs) < 0.03, 'the two numbers of a pair are uncorrelated');
  // Only the logarithm and the sines differ between processors.
  allClose(t, normal, randomValues(count, seed, 6, cases[1].drawn), 'normal numbers as on the CPU', {
    absolute: 5e-3,
    relative: 0,
  });
  allClose(t, small, randomValues(35, seed, 7, cases[2].drawn), 'mean 3, deviation 0.02', {
    absolute: 1e-4,
    relative: 0,
  });
  sameBits(t, normal, again[1], 'the same bits twice');
});

test('Box-Muller at the ends of the unit interval', async (t) => {
  const shared = await testGpu();
  const program = new Program(
    Gpu.fromDevice(shared.device, {
      shaders: {
        text: (file) => {
          if (file !== 'ends_test.wgsl') return shared.shaders.text(file);
          const source = shared.shaders.text('random_fill.wgsl');
          return (
            source.slice(0, source.indexOf('@compute')) +
            `@compute @workgroup_size(1) fn main() {
            let extremes = array(0u, 1u, 0x80000000u, 0xffffff7fu, 0xffffff80u, 0xffffffffu);
            for (var i = 0u; i < 6u; i++) {
              let pair = box_muller(extremes[i] + (seed[0] & parameters[0]), -1.0);
              out[2u * i] = pair.x;
              out[2u * i + 1u] = pair.y;
            }
          }`
          );
        },
      },
    }),
    'ends',
  );
  const out = program.keep(program.intermediate('out', [12]));
  program.dispatch(
    {
      shader: 'ends_test.wgsl',
      prelude: {},
      grid: [1, 1, 1],
      bindings: ['read', 'read', 'read_write'],
      flops: 0,
      bytes: 0,
    },
    [program.constant('zero', [3], new Uint32Array(3)), program.constant('zeros', [3], new Uint32Array(3)), out],
  );
  await program.compile();
  program.run();
  const values = (await program.read(out)) as Float32Array;
  t.ok(values.every(Number.isFinite), 'always finite');
  const radius = (bits: number): number => -Math.sqrt(-2 * Math.log(bits / 2 ** 32 + 2 ** -33));
  allClose(
    t,
    [values[0], values[2], values[4]],
    [radius(0), radius(1), radius(2 ** 31)],
    'the tail reaches 6.7 sigma',
    { absolute: 5e-3, relative: 0 },
  );
  t.ok(
    values.slice(6).every((v) => Math.abs(v) < 2e-3),
    'and the other end is the centre',
  );
  program.dispose();
});

/** Runs one recorded `randomRanks` for several seeds. */
async function ranksOf(
  branches: number,
  sizes: readonly number[],
  stream: number,
  seeds: readonly Uint32Array[],
): Promise<Uint32Array[]> {
  const program = new Program(await testGpu(), 'ranks');
  const seed = program.input('seed', SEED_SHAPE, 'u32');
  const ranks = program.keep(randomRanks(new Graph(program), seed, { branches, sizes, stream }));
  await program.compile({ guard: true });
  const results: Uint32Array[] = [];
  for (const words of seeds) {
    program.write(seed, words);
    program.run();
    results.push((await program.read(ranks)) as Uint32Array);
  }
  if ((await program.checkGuards()).length > 0) throw new Error('ranks are written past their end');
  program.dispose();
  return results;
}

test('random ranks: permutations, each its own', async (t) => {
  for (const [branches, sizes] of [
    [3, [8, 20]],
    [2, [1]],
    [2, [257, 61, 5]],
    [1, [600, 1]],
    [2, [64]],
  ] as const) {
    const pitch = rankPitch(sizes);
    const seed = seedWords(7, 9);
    const [first, again, later] = await ranksOf(branches, sizes, 3, [seed, seed, seedWords(7, 10)]);
    t.equal(first.length, branches * pitch, `${branches} branches of [${sizes}]: pitch ${pitch}`);
    const seen = new Set<string>();
    let exact = true;
    let padded = true;
    for (let branch = 0; branch < branches; branch++) {
      let at = branch * pitch;
      sizes.forEach((size, g) => {
        for (const [step, ranks] of [
          [9, first],
          [10, later],
        ] as const) {
          const keys = Array.from(
            { length: size },
            (_, i) => philox4x32([i, branch * sizes.length + g, step, 3], [7, 0])[0],
          );
          const actual = ranks.slice(at, at + size);
          exact &&= oracle.ranksOfKeys(keys).every((rank, i) => rank === actual[i]);
          if (size >= 20) seen.add(actual.join());
        }
        at += size;
      });
      padded &&= first.slice(at, (branch + 1) * pitch).every((rank) => rank === NO_ROW);
    }
    t.ok(exact, `[${sizes}]: the ranks of the keys, a valid permutation in every group`);
    t.ok(padded, `[${sizes}]: NO_ROW in the padding`);
    t.equal(
      seen.size,
      2 * branches * sizes.filter((size) => size >= 20).length,
      `[${sizes}]: branches, groups and steps differ`,
    );
    sameBits(t, first, again, `[${sizes}]: the same seed gives the same bits`);
  }
  const [a] = await ranksOf(1, [50], 3, [seedWords(1, 1)]);
  const [b] = await ranksOf(1, [50], 4, [seedWords(1, 1)]);
  t.notDeepEqual(a, b, 'another stream gives another permutation');
});

test('random ranks: uniform', async (t) => {
  // 150 steps of 64 branches of permutations of 6 items: every item equally often at every rank, every order equally often.
  const size = 6;
  const steps = 150;
  const branches = 64;
  const results = await ranksOf(
    branches,
    [size],
    1,
    Array.from({ length: steps }, (_, step) => seedWords(2024, step)),
  );
  const places = new Array<number>(size * size).fill(0);
  const orders = new Map<string, number>();
  for (const ranks of results) {
    for (let branch = 0; branch < branches; branch++) {
      const own = ranks.slice(branch * 64, branch * 64 + size);
      own.forEach((rank, item) => {
        places[item * size + rank]++;
      });
      orders.set(own.join(), (orders.get(own.join()) ?? 0) + 1);
    }
  }
  const draws = steps * branches;
  const chiSquare = (counts: readonly number[], expected: number): number =>
    counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  const byPlace = chiSquare(places, draws / size);
  t.ok(byPlace < 60, `items over ranks: chi-square ${byPlace.toFixed(1)} at 25 degrees of freedom`);
  t.equal(orders.size, 720, 'all 720 orders occur');
  const byOrder = chiSquare([...orders.values()], draws / 720);
  t.ok(byOrder > 550 && byOrder < 900, `orders: chi-square ${byOrder.toFixed(1)} at 719 degrees of freedom`);
});

test('random numbers: what they refuse', async (t) => {
  t.throws(() => seedWords(-1, 0), /the seed -1/, 'a negative seed');
  t.throws(() => seedWords(0, 2 ** 32), /the step 4294967296/, 'a step beyond 32 bits');
  const graph = new Graph(new Program(await testGpu(), 'refused'));
  const seed = graph.program.input('seed', SEED_SHAPE, 'u32');
  t.throws(
    () => randomRanks(graph, seed, { branches: 2, sizes: [4, 0], stream: 0 }),
    /every group needs an item/,
    'an empty group',
  );
});
