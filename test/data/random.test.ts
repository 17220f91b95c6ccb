import test from 'tape';
import { CounterRandom, philox4x32 } from '../../src/data/random.js';

test('Philox-4x32-10 gives the published known answers', (t) => {
  // kat_vectors of the Random123 distribution: counter, key, result.
  const cases = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [c, k, want] of cases) {
    const out = new Uint32Array(4);
    philox4x32(c[0], c[1], c[2], c[3], k[0], k[1], out);
    t.deepEqual([...out], want);
  }
  t.end();
});

test('a stream depends on its name alone', (t) => {
  const draw = (random: CounterRandom, n = 6) => Array.from({ length: n }, () => random.uint32());
  const first = draw(new CounterRandom(7, 2, 100, 3));
  const other = new CounterRandom(7, 2, 100, 4);
  draw(other, 1000);
  t.deepEqual(draw(new CounterRandom(7, 2, 100, 3)), first, 'the same after other draws');
  const names = [
    [7],
    [8],
    [7, 0],
    [7, 0, 0],
    [7, 1],
    [7, 2, 100],
    [7, 100, 2],
    [7, 2, 100, 4],
    [7, 2 ** 32],
    [2 ** 33],
  ];
  const starts = new Set(
    [first, ...names.map(([seed, ...stream]) => draw(new CounterRandom(seed, ...stream)))].map(String),
  );
  t.equal(starts.size, names.length + 1, 'other names, orders and high halves give other numbers');
  t.throws(() => new CounterRandom(1.5), RangeError);
  t.throws(() => new CounterRandom(1, -1), RangeError);
  t.end();
});

test('numbers are distributed as they should be', (t) => {
  const random = new CounterRandom(1, 1);
  const n = 40000;
  let sum = 0;
  let outside = 0;
  for (let i = 0; i < n; i++) {
    const u = random.uniform(-2, 6);
    sum += u;
    if (u < -2 || u >= 6) outside++;
  }
  t.equal(outside, 0);
  // Standard error of the mean is 8 / sqrt(12 n) = 0.0115.
  t.ok(Math.abs(sum / n - 2) < 0.06, `uniform mean ${sum / n}`);
  const reversed = Array.from({ length: 100 }, () => random.uniform(4, 3));
  t.ok(
    reversed.every((u) => u > 3 && u <= 4),
    'hi below lo spans the same interval',
  );

  const counts = new Int32Array(5);
  for (let i = 0; i < n; i++) counts[random.integer(3, 7) - 3]++;
  t.ok(
    [...counts].every((count) => Math.abs(count - n / 5) < 5 * Math.sqrt(n * 0.16)),
    `integers ${counts}`,
  );
  t.equal(random.integer(9, 9), 9);
  t.throws(() => random.integer(2, 1), RangeError);

  let squares = 0;
  let normals = 0;
  for (let i = 0; i < n; i++) {
    const z = random.normal();
    normals += z;
    squares += z * z;
  }
  t.ok(Math.abs(normals / n) < 0.03 && Math.abs(squares / n - 1) < 0.05, `normal ${normals / n}, ${squares / n}`);

  const places = new Int32Array(16);
  let complete = 0;
  for (let i = 0; i < 8000; i++) {
    const order = random.permutation(4);
    if ([...order].sort().join() === '0,1,2,3') complete++;
    for (let at = 0; at < 4; at++) places[at * 4 + order[at]]++;
  }
  t.equal(complete, 8000, 'every permutation holds each number once');
  t.ok(
    [...places].every((count) => Math.abs(count - 2000) < 5 * Math.sqrt(8000 * 0.1875)),
    `permutations ${places}`,
  );
  t.equal(random.permutation(0).length, 0);
  t.end();
});
