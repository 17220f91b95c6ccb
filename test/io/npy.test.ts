/** .npy files: round trips, a file as NumPy wrote it, refusals. */
import fc from 'fast-check';
import test from 'tape';
import { encodeNpy, type NpyData, readNpy } from '../../src/io/npy.js';

test('npy: what is written is read back', async (t) => {
  const shape = fc.array(fc.nat(5), { maxLength: 4 });
  const makers: ((length: number) => NpyData)[] = [
    (length) => Float32Array.from({ length }, (_, i) => i - 1.5),
    (length) => Float64Array.from({ length }, (_, i) => i / 3),
    (length) => Int32Array.from({ length }, (_, i) => -i),
    (length) => BigInt64Array.from({ length }, (_, i) => BigInt(i) - 2n ** 40n),
    (length) => Uint8Array.from({ length }, (_, i) => i),
  ];
  fc.assert(
    fc.property(shape, fc.constantFrom(...makers), (sizes, make) => {
      const data = make(sizes.reduce((product, size) => product * size, 1));
      const file = encodeNpy({ shape: sizes, data });
      const again = readNpy(file);
      return (
        (file.length - data.byteLength) % 64 === 0 &&
        again.shape.join() === sizes.join() &&
        again.data.constructor === data.constructor &&
        again.data.join() === data.join()
      );
    }),
  );
  t.pass('100 random arrays, headers a multiple of 64 bytes');
});

/** `numpy.save` of `numpy.array([[1.5, -2.0]], dtype="<f4")`, byte for byte. */
function writtenByNumpy(text: string, data: Uint8Array): Uint8Array {
  const header = text.padEnd(117, ' ') + '\n';
  return Uint8Array.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 118, 0, ...Buffer.from(header), ...data]);
}

test('npy: bytes as NumPy writes them', async (t) => {
  const data = new Uint8Array(Float32Array.of(1.5, -2).buffer);
  const file = writtenByNumpy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", data);
  t.equal(
    Buffer.compare(file, encodeNpy({ shape: [1, 2], data: Float32Array.of(1.5, -2) })),
    0,
    'ours are the same bytes',
  );
  t.deepEqual(readNpy(file), { shape: [1, 2], data: Float32Array.of(1.5, -2) });
  const flags = writtenByNumpy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", Uint8Array.of(1, 0, 1));
  t.deepEqual(readNpy(flags), { shape: [3], data: Uint8Array.of(1, 0, 1) });
});

test('npy: refusals name the cure', async (t) => {
  const data = new Uint8Array(8);
  const file = (descr: string, order = 'False', shape = '(1, 2)') =>
    writtenByNumpy(`{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`, data);
  t.throws(() => readNpy(new Uint8Array(20)), /Not a \.npy file/);
  t.throws(() => readNpy(file('<f4', 'True')), /ascontiguousarray/);
  t.throws(() => readNpy(file('>f4')), /newbyteorder/);
  t.throws(() => readNpy(file('<c8', 'False', '(1,)')), /'<c8'.*astype/);
  t.throws(() => readNpy(file('<f4', 'False', '(3,)')), /holds 8 bytes of elements; '<f4' \[3\] needs 12/);
  t.throws(() => readNpy(file('<f4').subarray(0, 60)), /truncated inside its header/);
  t.throws(() => encodeNpy({ shape: [3], data: new Float32Array(2) }), /has 3 elements; 2 were given/);
});

test('a file read into a Buffer, whose memory is shared with others, is read right', (t) => {
  const values = Float32Array.of(1.5, -2, 3);
  const bytes = encodeNpy({ shape: [3], data: values });
  const shared = Buffer.from(new ArrayBuffer(bytes.length + 24), 3, bytes.length);
  shared.set(bytes);
  t.deepEqual([...readNpy(shared).data], [1.5, -2, 3]);
  t.end();
});
