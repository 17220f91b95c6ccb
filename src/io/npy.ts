/**
 * NumPy's .npy files: a magic string, a Python dictionary as header, the elements. Written as version 1.0, C order,
 * little-endian; read in versions 1 to 3. For embeddings and k-means indices that other tools open.
 * Runs in browsers: no Node imports.
 */
import { DataError } from '../errors.js';

/** Element arrays that go into a file: float32, float64, int32, int64, uint8. */
export type NpyData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

/** An array with its shape, C order. A boolean file reads as uint8 0 and 1. */
export interface NpyArray {
  shape: number[];
  data: NpyData;
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/** Header alignment that NumPy writes since 1.14. */
const HEADER_ALIGNMENT = 64;

/**
 * The bytes of a .npy file.
 * @throws DataError when the shape does not match the number of elements.
 */
export function encodeNpy({ shape, data }: { shape: readonly number[]; data: NpyData }): Uint8Array {
  const header = npyHeader(shape, descriptorOf(data));
  const expected = elementCount(shape);
  if (data.length !== expected) {
    throw new DataError(`An array [${shape.join(', ')}] has ${expected} elements; ${data.length} were given.`);
  }
  const file = new Uint8Array(header.length + data.byteLength);
  file.set(header);
  file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), header.length);
  return file;
}

/**
 * Only the header, for files written row by row: `descriptor` is NumPy's type string ('<f4', '<f8', '<i4', '<i8', '|u1').
 */
export function npyHeader(shape: readonly number[], descriptor: string): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const prefix = MAGIC.length + 4;
  const total = Math.ceil((prefix + text.length + 1) / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  const header = new Uint8Array(total).fill(0x20);
  header.set(MAGIC);
  header[6] = 1;
  header[7] = 0;
  new DataView(header.buffer).setUint16(8, total - prefix, true);
  header.set(new TextEncoder().encode(text), prefix);
  header[total - 1] = 0x0a;
  return header;
}

/**
 * Reads a .npy file; the elements are copied, so the bytes may be reused.
 * @throws DataError for another format, Fortran order, big-endian or unknown element types, or a truncated file.
 */
export function readNpy(bytes: Uint8Array): NpyArray {
  if (bytes.length < 10 || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw new DataError(
      "Not a .npy file: it does not start with NumPy's mark. (.npz archives must be unpacked first.)",
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bytes[6] >= 2;
  if (bytes[6] < 1 || bytes[6] > 3)
    throw new DataError(`The .npy file has version ${bytes[6]}.${bytes[7]}; 1 to 3 are known.`);
  if (wide && bytes.length < 12) throw new DataError('The .npy file is truncated inside its header.');
  const start = wide ? 12 : 10;
  const dataStart = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (dataStart > bytes.length) throw new DataError('The .npy file is truncated inside its header.');
  const header = new TextDecoder('utf-8').decode(bytes.subarray(start, dataStart));
  const descriptor = /'descr'\s*:\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(header)?.[1];
  const sizes = /'shape'\s*:\s*\(([\d\s,]*)\)/.exec(header)?.[1];
  if (descriptor === undefined || order === undefined || sizes === undefined) {
    throw new DataError(`The .npy header is not one that can be read: ${header.trim()}`);
  }
  const shape = sizes
    .split(',')
    .filter((size) => size.trim() !== '')
    .map(Number);
  if (order === 'True' && shape.length > 1) {
    throw new DataError('The .npy file is in Fortran order. Save it with numpy.ascontiguousarray(x).');
  }
  const elementBytes = bytesOf(descriptor);
  const expected = elementCount(shape) * elementBytes;
  if (bytes.length - dataStart !== expected) {
    throw new DataError(
      `The .npy file holds ${bytes.length - dataStart} bytes of elements; '${descriptor}' [${shape.join(', ')}] needs ${expected}.`,
    );
  }
  return { shape, data: typedArray(descriptor, Uint8Array.prototype.slice.call(bytes, dataStart).buffer) };
}

function bytesOf(descriptor: string): number {
  if (/^[<|](f4|i4|f8|i8)$/.test(descriptor)) return Number(descriptor[2]);
  if (/^[<|](u1|b1)$/.test(descriptor)) return 1;
  const cure = descriptor.startsWith('>')
    ? 'Save it with x.astype(x.dtype.newbyteorder("<")).'
    : 'Save it with x.astype("float32").';
  throw new DataError(
    `The .npy file has elements of type '${descriptor}'; <f4, <f8, <i4, <i8, |u1 and |b1 are read. ${cure}`,
  );
}

function typedArray(descriptor: string, buffer: ArrayBuffer): NpyData {
  switch (descriptor.slice(1)) {
    case 'f4':
      return new Float32Array(buffer);
    case 'f8':
      return new Float64Array(buffer);
    case 'i4':
      return new Int32Array(buffer);
    case 'i8':
      return new BigInt64Array(buffer);
    default:
      return new Uint8Array(buffer);
  }
}

function descriptorOf(data: NpyData): string {
  if (data instanceof Float32Array) return '<f4';
  if (data instanceof Float64Array) return '<f8';
  if (data instanceof Int32Array) return '<i4';
  if (data instanceof BigInt64Array) return '<i8';
  return '|u1';
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
