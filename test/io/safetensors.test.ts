/** safetensors: round trips, stable bytes, number conversions, and every way a file can be broken. */
import fc from 'fast-check';
import test from 'tape';
import { DataError } from '../../src/errors.js';
import {
  bfloat16ToFloat32,
  encodeSafetensors,
  float32ToHalf,
  halfToFloat32,
  readSafetensors,
  readSafetensorsHeader,
  type TensorToStore,
} from '../../src/io/safetensors.js';

/** A file from a header object (or raw header bytes) and data bytes, well-formed or not. */
function fileOf(header: unknown, data: Uint8Array, headerBytes?: number): Uint8Array {
  const json = header instanceof Uint8Array ? header : new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes ?? json.length), true);
  file.set(json, 8);
  file.set(data, 8 + json.length);
  return file;
}

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

test('safetensors: what is written is read back', async (t) => {
  const dtypes = { F32: 4, F64: 8, I64: 8, I32: 4, F16: 2, BF16: 2, U8: 1, BOOL: 1 } as const;
  const tensor = fc
    .record({
      dtype: fc.constantFrom(...(Object.keys(dtypes) as (keyof typeof dtypes)[])),
      shape: fc.array(fc.nat(4), { maxLength: 3 }),
      fill: fc.nat(255),
    })
    .map(({ dtype, shape, fill }): TensorToStore => {
      const bytes = shape.reduce((product, size) => product * size, 1) * dtypes[dtype];
      return { dtype, shape, data: Uint8Array.from({ length: bytes }, (_, i) => (i + fill) & 255) };
    });
  const name = fc.string({ unit: 'binary' }).filter((text) => text !== '__metadata__');
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(name, tensor), { selector: ([key]) => key, maxLength: 6 }),
      fc.uniqueArray(fc.tuple(name, name), { selector: ([key]) => key, maxLength: 3 }),
      (tensors, metadata) => {
        const file = encodeSafetensors(tensors, Object.fromEntries(metadata));
        const again = readSafetensors(file);
        const shuffled = encodeSafetensors([...tensors].reverse(), Object.fromEntries([...metadata].reverse()));
        return (
          Buffer.compare(file, shuffled) === 0 &&
          again.tensors.size === tensors.length &&
          metadata.every(([key, value]) => again.metadata[key] === value) &&
          tensors.every(([key, { dtype, shape, data }]) => {
            const found = again.tensors.get(key)!;
            return (
              found.dtype === dtype &&
              found.shape.join() === shape.join() &&
              Buffer.compare(found.data, data as Uint8Array) === 0
            );
          })
        );
      },
    ),
    { numRuns: 200 },
  );
  t.pass('200 random files, the same bytes whatever the order');
});

test('safetensors: every tensor starts aligned, wide types first, then by name', async (t) => {
  const file = encodeSafetensors([
    ['b', { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) }],
    ['c', { dtype: 'F32', shape: [1], data: Float32Array.of(1.5) }],
    ['a', { dtype: 'F32', shape: [2], data: Float32Array.of(-1, 2) }],
    ['z', { dtype: 'F64', shape: [], data: Float64Array.of(Math.PI) }],
  ]);
  const { tensors } = readSafetensorsHeader(file, file.length);
  t.deepEqual([...tensors.keys()], ['z', 'a', 'c', 'b']);
  t.equal(tensors.get('z')!.begin % 8, 0);
  const opened = readSafetensors(file);
  t.deepEqual([...opened.float32('a')], [-1, 2]);
  t.equal(opened.float32('a').buffer, file.buffer, 'an aligned float32 tensor is a view');
  const moved = new Uint8Array(file.length + 1);
  moved.set(file, 1);
  t.deepEqual([...readSafetensors(moved.subarray(1)).float32('a')], [-1, 2], 'also from bytes that start unaligned');
  t.deepEqual([...opened.float32('z')], [Math.fround(Math.PI)]);
  t.throws(() => opened.float32('nothing'), /no tensor "nothing"/);
  t.throws(() => opened.float32('b'), /type U8; floating numbers were expected/);
});

test('safetensors: whole numbers as numbers', async (t) => {
  const opened = readSafetensors(
    encodeSafetensors([
      ['i64', { dtype: 'I64', shape: [2], data: BigInt64Array.of(-5n, 2n ** 53n - 1n) }],
      ['huge', { dtype: 'I64', shape: [1], data: BigInt64Array.of(2n ** 60n) }],
      ['i32', { dtype: 'I32', shape: [2], data: Int32Array.of(-7, 8) }],
      ['bool', { dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) }],
      ['half', { dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) }],
    ]),
  );
  t.deepEqual([...opened.float64('i64')], [-5, 2 ** 53 - 1]);
  t.deepEqual([...opened.float64('i32')], [-7, 8]);
  t.deepEqual([...opened.float64('bool')], [0, 1]);
  t.deepEqual([...opened.float64('half')], [1]);
  t.throws(() => opened.float64('huge'), /beyond what a number keeps exactly/);
});

test('half and bfloat16', async (t) => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const back = float32ToHalf(halfToFloat32(all));
  const isNaNBits = (bits: number) => (bits & 0x7fff) > 0x7c00;
  t.deepEqual(
    all.filter((bits, i) => !isNaNBits(bits) && back[i] !== bits).length,
    0,
    'all 63,490 numbers go there and back',
  );
  t.ok(
    all.filter(isNaNBits).every((bits) => isNaNBits(back[bits])),
    'NaN stays NaN',
  );
  const cases: [number, number][] = [
    [65504, 0x7bff],
    [65519.996, 0x7bff],
    [65520, 0x7c00],
    [-1e10, 0xfc00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.001, 0x0001],
    [1.5 * 2 ** -24, 0x0002],
    [2 ** -14 - 2 ** -26, 0x0400],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [-0, 0x8000],
  ];
  t.deepEqual(
    [...float32ToHalf(Float32Array.from(cases, ([value]) => value))],
    cases.map(([, bits]) => bits),
    'ties to even',
  );
  t.deepEqual([...bfloat16ToFloat32(Uint16Array.of(0x3f80, 0xc040, 0x7f80))], [1, -3, Number.POSITIVE_INFINITY]);
});

test('safetensors: a corrupt file is refused whole', async (t) => {
  const eight = new Uint8Array(8);
  const broken: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /less than its header/],
    ['only a length', fileOf({}, new Uint8Array(0)).subarray(0, 8), /ends inside its header/],
    ['header cut off', fileOf({ a: f32(0, 8) }, eight).subarray(0, 20), /ends inside its header/],
    ['header too large', fileOf({}, eight, 100_000_001), /at most 100000000/],
    ['header length beyond a number', fileOf({}, eight, Number.MAX_SAFE_INTEGER), /some other format/],
    ['not JSON', fileOf(new TextEncoder().encode('{"a":'), eight), /not JSON/],
    ['not UTF-8', fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), eight), /not JSON/],
    ['not an object', fileOf([1], eight), /not a JSON object/],
    ['truncated data', fileOf({ a: f32(0, 8) }, new Uint8Array(5)), /truncated: tensor "a"/],
    ['bytes after the end', fileOf({ a: f32(0, 8) }, new Uint8Array(9)), /1 bytes after the last tensor/],
    ['overlap', fileOf({ a: f32(0, 8), b: f32(4, 12) }, new Uint8Array(12)), /"a" and "b" overlap/],
    ['gap', fileOf({ a: f32(0, 4), b: f32(8, 12) }, new Uint8Array(12)), /4 bytes before tensor "b"/],
    ['unknown type', fileOf({ a: { ...f32(0, 8), dtype: 'F8' } }, eight), /unknown type "F8"/],
    ['type of a prototype', fileOf({ a: { ...f32(0, 8), dtype: 'toString' } }, eight), /unknown type/],
    ['size against shape', fileOf({ a: f32(0, 8, [3]) }, eight), /takes 8 bytes; F32 \[3\] needs 12/],
    ['negative size', fileOf({ a: f32(0, 8, [-2]) }, eight), /has the shape \[-2\]/],
    ['fractional size', fileOf({ a: f32(0, 8, [0.5, 4]) }, eight), /has the shape/],
    ['offsets backwards', fileOf({ a: { ...f32(0, 8), data_offsets: [8, 0] } }, eight), /has the offsets \[8,0\]/],
    ['no offsets', fileOf({ a: { dtype: 'F32', shape: [2] } }, eight), /has the offsets/],
    ['entry is a number', fileOf({ a: 3 }, eight), /is not an object/],
    ['metadata of numbers', fileOf({ __metadata__: { a: 1 }, a: f32(0, 8) }, eight), /not a table of strings/],
  ];
  for (const [what, bytes, message] of broken) {
    try {
      readSafetensors(bytes);
      t.fail(`${what}: was accepted`);
    } catch (error) {
      t.ok(error instanceof DataError && message.test(error.message), `${what}: ${(error as Error).message}`);
    }
  }
});

test('safetensors: a file with any single byte of its header changed is refused or still consistent', async (t) => {
  const file = encodeSafetensors([['w', { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) }]], { step: '3' });
  fc.assert(
    fc.property(fc.nat(file.length - 25), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = file.slice();
      changed[at] ^= flip;
      try {
        const { tensors } = readSafetensors(changed);
        return [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0) === 24;
      } catch (error) {
        return error instanceof DataError;
      }
    }),
    { numRuns: 500 },
  );
  t.pass('500 changed files');
});

test('safetensors: writing refuses what does not fit together', async (t) => {
  const data = new Float32Array(2);
  t.throws(() => encodeSafetensors([['a', { dtype: 'F32', shape: [3], data }]]), /"a" has 8 bytes; F32 \[3\] needs 12/);
  t.throws(
    () =>
      encodeSafetensors([
        ['a', { dtype: 'F32', shape: [2], data }],
        ['a', { dtype: 'F32', shape: [2], data }],
      ]),
    /Two tensors to write are called "a"/,
  );
});

test('a misaligned Buffer is copied to where its elements are aligned', (t) => {
  const encoded = encodeSafetensors([['x', { dtype: 'F32', shape: [2], data: Float32Array.of(1.5, -2) }]]);
  const shared = Buffer.from(new ArrayBuffer(encoded.length + 8), 3, encoded.length);
  shared.set(encoded);
  t.deepEqual([...readSafetensors(shared).float32('x')], [1.5, -2]);
  t.end();
});
