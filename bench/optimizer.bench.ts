/** How fast are the optimizer (norms, clipping, AdamW with its followers, accumulation), random numbers and row subsets. */

import type { Followers } from '../kernels/adamw.js';
import type { Capabilities } from '../src/gpu/capabilities.js';
import type { Program } from '../src/gpu/program.js';
import { fromHalf, toHalf } from '../src/gpu/half.js';
import type { Tensor, TypedData } from '../src/gpu/tensor.js';
import { Graph } from '../src/tensor/graph.js';
import { INITIAL_LOSS_SCALE, LOSS_SCALE, lossScaleState, scaledSeed } from '../src/tensor/loss_scale.js';
import {
  adamWHyper,
  type AdamWRates,
  HYPER_SHAPE,
  type OptimizerGroup,
  recordAccumulate,
  recordAdamW,
  recordClip,
  STEP_COEFFICIENTS,
} from '../src/tensor/optimizer.js';
import { ParameterStore, recordHalfCopies } from '../src/tensor/parameters.js';
import {
  type Distribution,
  randomFill,
  randomRanks,
  randomValues,
  rankPitch,
  SEED_SHAPE,
  seedWords,
} from '../src/tensor/random.js';
import { dropPathRows, invertRows, ranksOfPermutations } from '../src/tensor/row_subsets.js';
import type { SequenceGroup } from '../src/tensor/sequences.js';
import { NO_ROW } from '../src/tensor/rows.js';
import { noise } from '../test/fixture.js';
import * as oracle from '../test/oracle/optimizer.js';
import * as rowsOracle from '../test/oracle/row_subsets.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { type Comparison, compare, compareExactly, samplePlaces } from './comparison.js';

const RATES: AdamWRates = {
  learningRate: 1e-3,
  lastLayerLearningRate: 0,
  weightDecay: 0.04,
  teacherMomentum: 0.99,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  maxNorm: 3,
};
const GROUP: OptimizerGroup = { lrMultiplier: 0.9, wdMultiplier: 1, isLastLayer: false, module: 0 };
const CLIP_COEFFICIENT = 0.5;
/** Steps applied before those that are timed. */
const APPLIED_STEPS = 9;

/** The weights of a few blocks: long and short parameters, in the sizes of a ViT. */
function blockStore(program: Program, blocks: number, D: number): ParameterStore {
  const specs = Array.from({ length: blocks }, (_, i) => [
    { name: `blocks.${i}.norm1.weight`, shape: [D] },
    { name: `blocks.${i}.attn.qkv.weight`, shape: [3 * D, D] },
    { name: `blocks.${i}.attn.qkv.bias`, shape: [3 * D] },
    { name: `blocks.${i}.attn.proj.weight`, shape: [D, D] },
    { name: `blocks.${i}.mlp.fc1.weight`, shape: [4 * D, D] },
    { name: `blocks.${i}.mlp.fc2.weight`, shape: [D, 4 * D] },
  ]);
  return new ParameterStore(program.gpu, 'student', specs.flat());
}

/** Parameters that `blockStore` makes for a block. */
const BLOCK_PARAMETERS = 6;

/** Seed of a parameter's values: all blocks have the same, so that hundreds of millions take no time to draw. */
function seedOf(seed: number, index: number): number {
  return seed + 31 * (index % BLOCK_PARAMETERS);
}

/** Random values for every parameter, made from numbers in [-1, 1). */
function valuesOf(store: ParameterStore, seed: number, map: (v: number) => number): Map<string, Float32Array> {
  const drawn = store.names
    .slice(0, BLOCK_PARAMETERS)
    .map((name, i) => noise(store.get(name).elements, seedOf(seed, i)).map(map));
  return new Map(store.names.map((name, i) => [name, drawn[i % BLOCK_PARAMETERS]]));
}

function millions(elements: number): string {
  return `${(elements / 1e6).toFixed(2)} M parameters`;
}

/** A store that holds the state of a loss scale of 1. */
function lossScaleStore(program: Program): { store: ParameterStore; state: Tensor; prepare: () => Promise<void> } {
  const store = new ParameterStore(program.gpu, 'loss scale', [LOSS_SCALE]);
  const prepare = (): Promise<void> => store.write(LOSS_SCALE.name, lossScaleState({ appliedSteps: APPLIED_STEPS }));
  return { store, state: store.get(LOSS_SCALE.name), prepare };
}

function adamWCase(blocks: number, D: number, followers: Followers): BenchCase {
  const parameters = blocks * (12 * D * D + 4 * D);
  const operator = { none: 'adamw', teacher: 'adamw, teacher', teacher_and_halves: 'adamw, teacher, half copies' };
  return operatorCase(operator[followers], millions(parameters), (program) => {
    const student = blockStore(program, blocks, D);
    const gradients = student.like('gradients');
    const firstMoment = student.like('first moment');
    const secondMoment = student.like('second moment');
    const teacher = followers === 'none' ? undefined : student.like('teacher');
    const stores = [student, firstMoment, secondMoment, ...(teacher ? [teacher] : [])];
    const copied = teacher && followers === 'teacher_and_halves' ? [student, teacher] : [];
    if (copied.length > 0) ParameterStore.pairHalf(copied[0], copied[1]);
    const step = program.input('step', [STEP_COEFFICIENTS + 1]);
    const makers = [(v: number) => v, (v: number) => 0.01 * v, (v: number) => 1e-4 * (v + 1), (v: number) => 0.9 * v];
    const gradientOf = (v: number): number => 0.02 * v;
    const groups = new Map(student.names.map((name) => [name, GROUP]));
    const sampled = ['blocks.0.attn.qkv.weight', `blocks.${blocks - 1}.norm1.weight`];
    const { beta1, beta2 } = RATES;
    // Every repetition is the same step: its bias corrections do not move on.
    const applied = APPLIED_STEPS + 1;
    const corrections = [1 / (1 - beta1 ** applied), 1 / Math.sqrt(1 - beta2 ** applied)];
    return {
      inPlace: true,
      prepare: async () => {
        program.write(step, Float32Array.of(...adamWHyper(RATES), ...corrections, CLIP_COEFFICIENT));
        await gradients.writeAll(valuesOf(gradients, 1000, gradientOf));
        for (const [i, store] of stores.entries()) await store.writeAll(valuesOf(store, 2000 + 1000 * i, makers[i]));
      },
      record: () => {
        const recorded = { student, gradients, firstMoment, secondMoment, teacher };
        recordAdamW(new Graph(program), recorded, groups, step);
        return sampled.flatMap((name) => [...stores, ...copied.map((store) => store.half!)].map((s) => s.get(name)));
      },
      check: (results, times) =>
        sampled.flatMap((name, s) => {
          const index = student.names.indexOf(name);
          const places = samplePlaces(student.get(name).elements);
          const initial = (seed: number, map: (v: number) => number): Float64Array => {
            const values = noise(student.get(name).elements, seedOf(seed, index)).map(map);
            return Float64Array.from(places, (place) => values[place]);
          };
          const gradient = initial(1000, gradientOf);
          const [w, m, v, t] = makers.map((map, i) => initial(2000 + 1000 * i, map));
          let state = { student: w, firstMoment: m, secondMoment: v, teacher: t };
          for (let i = 0; i < times; i++)
            state = oracle.adamW(state, gradient, CLIP_COEFFICIENT, GROUP, RATES, applied);
          const expected = [state.student, state.firstMoment, state.secondMoment, state.teacher];
          const perName = stores.length + copied.length;
          const at = (i: number): number[] => places.map((place) => results[s * perName + i][place]);
          return [
            ...stores.map((store, i): Comparison => compare(`${store.name} of ${name}`, at(i), expected[i], 5e-6)),
            ...copied.map((store, i): Comparison => {
              const master = Float32Array.from(at(stores.indexOf(store)));
              const nearest = fromHalf(toHalf(master)).subarray(0, master.length);
              return compareExactly(`half copy of the ${store.name}'s ${name}`, at(stores.length + i), nearest);
            }),
          ];
        }),
      dispose: () => {
        for (const store of [gradients, ...stores]) store.dispose();
      },
    };
  });
}

function clipCase(blocks: number, D: number): BenchCase {
  return operatorCase('gradient norms and clipping', millions(blocks * (12 * D * D + 4 * D)), (program) => {
    const gradients = blockStore(program, blocks, D);
    const modules = new Map(gradients.names.map((name) => [name, name.includes('.mlp.') ? 1 : 0]));
    const hyper = program.input('hyper', HYPER_SHAPE);
    const lossScale = lossScaleStore(program);
    return {
      // The state of the loss scale counts on.
      inPlace: true,
      prepare: async () => {
        program.write(hyper, adamWHyper(RATES));
        await lossScale.prepare();
        await gradients.writeAll(valuesOf(gradients, 1000, (v) => v));
      },
      record: () => {
        const options = { modules, moduleCount: 2, hyper, lossScale: lossScale.state, growthInterval: 0 };
        const clip = recordClip(new Graph(program), gradients, options);
        return [clip.norms, clip.step, clip.flags, clip.parameters.norms];
      },
      check: ([norms, step, flags, parameterNorms]) => {
        const values = valuesOf(gradients, 1000, (v) => v);
        const expected = [0, 1].map((module) =>
          oracle.norm(
            ...gradients.names.filter((name) => modules.get(name) === module).map((name) => values.get(name)!),
          ),
        );
        return [
          compare('norms', norms, expected),
          compare(
            'coefficients',
            step.subarray(STEP_COEFFICIENTS),
            expected.map((norm) => oracle.clipCoefficient(norm, RATES.maxNorm)),
          ),
          compareExactly('flags', flags, [0, 0]),
          compare(
            'norms of the parameters',
            parameterNorms,
            gradients.names.map((name) => oracle.norm(values.get(name)!)),
          ),
        ];
      },
      dispose: () => {
        for (const store of [gradients, lossScale.store]) store.dispose();
      },
    };
  });
}

function halfCopyCase(blocks: number, D: number): BenchCase {
  return operatorCase('half_copy', millions(blocks * (12 * D * D + 4 * D)), (program) => {
    const student = blockStore(program, blocks, D);
    student.makeHalf();
    const name = 'blocks.0.attn.qkv.weight';
    return {
      prepare: () => student.writeAll(valuesOf(student, 1000, (v) => v)),
      record: () => {
        recordHalfCopies(new Graph(program), student);
        return [student.half!.get(name)];
      },
      check: ([halves]) => {
        const values = valuesOf(student, 1000, (v) => v).get(name)!;
        return [compareExactly('half copy', halves, fromHalf(toHalf(values)).subarray(0, values.length))];
      },
      dispose: () => student.dispose(),
    };
  });
}

function accumulateCase(blocks: number, D: number): BenchCase {
  return operatorCase('accumulate_gradients', millions(blocks * (12 * D * D + 4 * D)), (program) => {
    const gradients = blockStore(program, blocks, D);
    const accumulated = gradients.like('accumulated');
    const first = program.input('first', [1], 'u32');
    const name = 'blocks.0.attn.qkv.weight';
    return {
      inPlace: true,
      prepare: async () => {
        program.write(first, Uint32Array.of(0));
        await gradients.writeAll(valuesOf(gradients, 1000, (v) => v));
        await accumulated.writeAll(valuesOf(gradients, 2000, (v) => v));
      },
      record: () => {
        recordAccumulate(new Graph(program), accumulated, gradients, first);
        return [accumulated.get(name)];
      },
      check: ([sums], times) => {
        const [values, start] = [1000, 2000].map((seed) => valuesOf(gradients, seed, (v) => v).get(name)!);
        const expected = start.map((v, i) => {
          let sum = v;
          for (let n = 0; n < times; n++) sum = Math.fround(sum + values[i]);
          return sum;
        });
        return [compareExactly('sums', sums, expected)];
      },
      dispose: () => {
        for (const store of [gradients, accumulated]) store.dispose();
      },
    };
  });
}

function scaleSeedCase(count: number): BenchCase {
  return operatorCase('scale_seed', `${count}`, (program) => {
    const weights = program.input('weights', [count]);
    const state = program.input('state', LOSS_SCALE.shape);
    const values = noise(count, 3);
    return {
      prepare: () => {
        program.write(weights, values);
        program.write(state, lossScaleState({ scale: INITIAL_LOSS_SCALE }));
      },
      record: () => [scaledSeed(new Graph(program), weights, state)],
      check: ([seed]) => [
        compareExactly(
          'seeds',
          seed,
          values.map((v) => v * INITIAL_LOSS_SCALE),
        ),
      ],
    };
  });
}

function randomFillCase(elements: number, drawn: Distribution): BenchCase {
  return operatorCase(`random_fill, ${drawn.distribution}`, `${elements}`, (program) => {
    const seed = program.input('seed', SEED_SHAPE, 'u32');
    const words = seedWords(2 ** 40 + 3, 17);
    const stream = 5;
    return {
      prepare: () => program.write(seed, words),
      record: () => {
        const into = program.intermediate('random', [elements]);
        randomFill(program, into, seed, stream, drawn);
        return [into];
      },
      check: ([values]) => {
        // A GPU has its own logarithm, sine and cosine; uniform numbers have the same bits.
        const bound = drawn.distribution === 'normal' ? 1e-4 : 0;
        return [compare('numbers', values, randomValues(elements, words, stream, drawn), bound)];
      },
    };
  });
}

function randomRankCase(branches: number, sizes: readonly number[]): BenchCase {
  return operatorCase('random_rank', `${branches} branches of ${sizes.join(' + ')}`, (program) => {
    const seed = program.input('seed', SEED_SHAPE, 'u32');
    const pitch = rankPitch(sizes);
    return {
      prepare: () => program.write(seed, seedWords(7, 1)),
      record: () => [randomRanks(new Graph(program), seed, { branches, sizes, stream: 1 })],
      check: ([ranks]) => {
        // Every group holds each rank once, and the padding nothing.
        const sorted = new Uint32Array(ranks.length).fill(NO_ROW);
        const expected = new Uint32Array(ranks.length).fill(NO_ROW);
        for (let branch = 0; branch < branches; branch++) {
          let first = branch * pitch;
          for (const size of sizes) {
            sorted.set(Uint32Array.from(ranks.subarray(first, first + size)).sort(), first);
            expected.set(
              Uint32Array.from({ length: size }, (_, i) => i),
              first,
            );
            first += size;
          }
          sorted.set(ranks.subarray(first, (branch + 1) * pitch), first);
        }
        const fixed = sizes[0] > 8 && ranks.subarray(0, sizes[0]).every((rank, i) => rank === i);
        return [
          compareExactly('ranks in order', sorted, expected),
          { what: 'order not random', error: Number(fixed), bound: 0 },
        ];
      },
    };
  });
}

/** A permutation that does not look like the identity. */
function permutation(size: number, seed: number): number[] {
  return rowsOracle.ranksOfKeys(noise(size, seed));
}

function dropPathCase(branches: number, groups: readonly SequenceGroup[]): BenchCase {
  const shape = `${branches} branches of ${groups.map(({ count, length }) => `${count} × ${length}`).join(' + ')}`;
  return operatorCase('drop_path_rows', shape, (program) => {
    const permutations = Array.from({ length: branches }, (_, b) =>
      groups.map(({ count }, g) => permutation(count, 100 * b + g)),
    );
    const kept = permutations.map((_, b) =>
      groups.map(({ count }) => Math.max(1, Math.floor(count * (1 - (0.3 * b) / branches)))),
    );
    const ranks = program.input('ranks', [branches, rankPitch(groups.map(({ count }) => count))], 'u32');
    return {
      prepare: () => program.write(ranks, ranksOfPermutations(permutations)),
      record: () =>
        dropPathRows(new Graph(program), ranks, { groups, kept }).flatMap(({ index, inverse }) => [index, inverse]),
      check: (results: readonly TypedData[]) =>
        permutations.flatMap((perGroup, b) => {
          const index = rowsOracle.keptRows(perGroup, groups, kept[b]);
          const rows = results[2 * b + 1].length;
          return [
            compareExactly(`index of branch ${b}`, results[2 * b], index),
            compareExactly(`inverse of branch ${b}`, results[2 * b + 1], rowsOracle.inverse(index, rows)),
          ];
        }),
    };
  });
}

function invertRowsCase(rows: number, sourceRows: number): BenchCase {
  return operatorCase('invert_rows', `${rows} of ${sourceRows}`, (program) => {
    const index = program.input('index', [rows], 'u32');
    const data = Uint32Array.from(permutation(sourceRows, 3).slice(0, rows));
    return {
      prepare: () => program.write(index, data),
      record: () => [invertRows(new Graph(program), index, { sourceRows })],
      check: ([inverse]) => [compareExactly('inverse', inverse, rowsOracle.inverse(data, sourceRows))],
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  const [blocks, D] = software ? [2, 192] : [12, 384];
  const batch = software ? 4 : 64;
  const numbers = software ? 2 ** 18 + 1 : 2 ** 23 + 1;
  return [
    adamWCase(blocks, D, 'teacher_and_halves'),
    // ViT-L, which the targets are given for.
    ...(software ? [] : [adamWCase(25, 1024, 'teacher_and_halves')]),
    adamWCase(blocks, D, 'teacher'),
    adamWCase(blocks, D, 'none'),
    adamWCase(1, 50, 'teacher_and_halves'),
    halfCopyCase(blocks, D),
    accumulateCase(blocks, D),
    scaleSeedCase(3),
    clipCase(blocks, D),
    clipCase(1, 50),
    randomFillCase(numbers, { distribution: 'uniform', low: -1, high: 1 }),
    randomFillCase(numbers, { distribution: 'normal', mean: 0, std: 0.02 }),
    randomRankCase(24, [2 * batch, 8 * batch]),
    dropPathCase(24, [
      { count: 2 * batch, length: 257 },
      { count: 8 * batch, length: 50 },
    ]),
    invertRowsCase(software ? 1000 : 16000, (2 * 257 + 8 * 50) * batch),
  ];
}

export const section: BenchSection = {
  name: 'optimizer',
  question: 'How fast are the optimizer, random numbers and row subsets?',
  cases,
};
