import test from 'tape';
import {
  createSampler,
  DistributedSampler,
  EpochSampler,
  InfiniteSampler,
  ShardedInfiniteSampler,
} from '../../src/data/sampler.js';
import { DataError } from '../../src/errors.js';

const take = (sampler: { at(position: number): number }, start: number, count: number) =>
  Array.from({ length: count }, (_, i) => sampler.at(start + i));
const sorted = (values: number[]) => [...values].sort((a, b) => a - b);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

test('SHARDED_INFINITE keeps its shard and reshuffles it each epoch', (t) => {
  const ranks = [0, 1, 2].map((rank) => new ShardedInfiniteSampler({ length: 100, seed: 3, rank, world: 3 }));
  const epochs = ranks.map((sampler) => [0, 1, 2].map((epoch) => take(sampler, epoch * 33, 33)));
  for (const [first, second, third] of epochs) {
    t.deepEqual(sorted(first), sorted(second), 'the members of a shard never change');
    t.notDeepEqual(first, second);
    t.notDeepEqual(second, third);
  }
  const all = epochs.flatMap(([first]) => first);
  t.equal(new Set(all).size, 99, 'shards are disjoint and the remainder of 100 / 3 is dropped');
  t.end();
});

test('a sampler is a function of the position', (t) => {
  const options = { length: 50, seed: 9 };
  for (const type of ['DISTRIBUTED', 'EPOCH', 'INFINITE', 'SHARDED_INFINITE', 'SHARDED_INFINITE_NEW'] as const) {
    const straight = take(createSampler(type, options), 0, 200);
    t.deepEqual(take(createSampler(type, options), 120, 80), straight.slice(120), `${type} resumes in the third epoch`);
    const jumping = createSampler(type, options);
    const backwards = upTo(200).reverse();
    t.deepEqual(backwards.map((i) => jumping.at(i)).reverse(), straight, `${type} in any order of asking`);
    t.deepEqual(sorted(straight.slice(50, 100)), upTo(50), `${type} visits every picture once an epoch`);
    t.notDeepEqual(take(createSampler(type, { ...options, seed: 10 }), 0, 50), straight.slice(0, 50), 'seeds differ');
  }
  t.end();
});

test('INFINITE strides one permutation a pass over the ranks', (t) => {
  const ranks = [0, 1, 2].map((rank) => new InfiniteSampler({ length: 10, seed: 1, rank, world: 3 }));
  t.deepEqual(
    ranks.map((sampler) => sampler.perPass),
    [4, 3, 3],
  );
  t.deepEqual(sorted(ranks.flatMap((sampler) => take(sampler, 0, sampler.perPass))), upTo(10));
  t.deepEqual(sorted(ranks.flatMap((sampler) => take(sampler, sampler.perPass, sampler.perPass))), upTo(10));
  const passes = upTo(20).map((pass) => String(sorted(take(ranks[1], 3 * pass, 3))));
  t.ok(new Set(passes).size > 5, 'a rank does not keep its pictures');
  t.end();
});

test('EPOCH draws its size from the repeated pictures without replacement', (t) => {
  const large = new EpochSampler({ length: 4, seed: 5, size: 10 });
  const counts = upTo(4).map((picture) => take(large, 0, 10).filter((i) => i === picture).length);
  t.ok(counts.every((count) => count <= 3) && counts.reduce((a, b) => a + b) === 10, `counts ${counts}`);
  const small = new EpochSampler({ length: 100, seed: 5, size: 10 });
  t.equal(new Set(take(small, 0, 10)).size, 10);
  t.notDeepEqual(take(small, 0, 10), take(small, 10, 10));
  const halves = [0, 1].map((rank) => new EpochSampler({ length: 100, seed: 5, size: 11, rank, world: 2 }));
  t.deepEqual(
    halves.map((sampler) => sampler.perPass),
    [6, 5],
  );
  const whole = take(new EpochSampler({ length: 100, seed: 5, size: 11 }), 0, 11);
  t.deepEqual(
    take(halves[1], 0, 5),
    [1, 3, 5, 7, 9].map((i) => whole[i]),
  );
  t.end();
});

test('DISTRIBUTED pads by repetition, and keeps the order without shuffling', (t) => {
  const ranks = [0, 1, 2, 3].map(
    (rank) => new DistributedSampler({ length: 10, seed: 0, rank, world: 4, shuffle: false }),
  );
  t.deepEqual(
    ranks.map((sampler) => take(sampler, 0, 3)),
    [
      [0, 4, 8],
      [1, 5, 9],
      [2, 6, 0],
      [3, 7, 1],
    ],
  );
  const tiny = new DistributedSampler({ length: 1, seed: 0, rank: 2, world: 4 });
  t.deepEqual(take(tiny, 0, 3), [0, 0, 0]);
  t.end();
});

test('samplers refuse what cannot be shared', (t) => {
  t.throws(() => new ShardedInfiniteSampler({ length: 3, seed: 0, rank: 0, world: 4 }), DataError);
  t.throws(() => new DistributedSampler({ length: 0, seed: 0 }), DataError);
  t.throws(() => new InfiniteSampler({ length: 9, seed: 0, rank: 2, world: 2 }), RangeError);
  t.end();
});
