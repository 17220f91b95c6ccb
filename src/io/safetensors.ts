/**
 * safetensors: eight bytes of header length, a JSON header, then the tensors' bytes without gaps, little-endian.
 *
 * The reader refuses a file whole when anything in it is off (truncated, overlapping, unknown type): a checkpoint
 * that loads halfway trains wrong without a word. The writer's bytes depend only on the tensors: elements of wide types first,
 * then by name, so that every tensor starts aligned to its element and two saves of one state are the same file.
 * Runs in browsers: no Node imports.
 */
import { DataError } from '../errors.js';

const ELEMENT_BYTES = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

/** Element types this project reads and writes. */
export type SafetensorsDtype = keyof typeof ELEMENT_BYTES;

/** One tensor of a file: C order, little-endian; `data` is a view into the file's bytes. */
export interface StoredTensor {
  dtype: SafetensorsDtype;
  shape: number[];
  data: Uint8Array;
}

/** A tensor to write. `data` holds exactly the shape's elements in `dtype`. */
export interface TensorToStore {
  dtype: SafetensorsDtype;
  shape: readonly number[];
  data: ArrayBufferView;
}

/** Where a tensor lies: `begin` and `end` count bytes from the start of the file. */
export interface TensorPlace {
  dtype: SafetensorsDtype;
  shape: number[];
  begin: number;
  end: number;
}

/** Largest header the format allows, 100 MB, as in the reference reader. */
export const MAX_HEADER_BYTES = 100_000_000;

/** An open file. Tensors are views of the bytes it was read from. */
export interface Safetensors {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * A floating tensor (F64, F32, F16, BF16) as float32. An aligned F32 tensor comes as a view, not a copy.
   * @throws DataError when there is no such tensor or it holds whole numbers.
   */
  float32(name: string): Float32Array;
  /**
   * Any tensor as float64 numbers, whole numbers and booleans (0, 1) included.
   * @throws DataError when there is no such tensor or a 64-bit integer is beyond ±2^53.
   */
  float64(name: string): Float64Array;
}

/**
 * Reads the table of contents from the file's first bytes, for readers that fetch tensors one at a time.
 * `bytes` must hold the header at least; `fileBytes` is the whole file's size.
 *
 * @throws DataError when the file is not a valid safetensors file; the message says what is wrong.
 */
export function readSafetensorsHeader(
  bytes: Uint8Array,
  fileBytes: number,
): { tensors: Map<string, TensorPlace>; metadata: Record<string, string> } {
  if (bytes.length < 8) throw corrupt(`it has ${bytes.length} bytes, less than its header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) {
    throw corrupt(`its header claims ${headerBytes} bytes (at most ${MAX_HEADER_BYTES}); this is some other format`);
  }
  const dataStart = 8 + headerBytes;
  if (dataStart > fileBytes || dataStart > bytes.length) {
    throw corrupt(`it ends inside its header (${headerBytes} bytes of header, ${fileBytes} in the file)`);
  }
  const header = parseHeader(bytes.subarray(8, dataStart));
  let metadata: Record<string, string> = {};
  const tensors = new Map<string, TensorPlace>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') metadata = checkMetadata(entry);
    else tensors.set(name, checkEntry(name, entry, dataStart));
  }
  let position = dataStart;
  let previous = 'the header';
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin < position) throw corrupt(`tensors "${previous}" and "${name}" overlap`);
    if (begin > position) throw corrupt(`${begin - position} bytes before tensor "${name}" belong to no tensor`);
    if (end > fileBytes) {
      throw corrupt(`it is truncated: tensor "${name}" ends at byte ${end}, the file at ${fileBytes}`);
    }
    position = end;
    previous = name;
  }
  if (position !== fileBytes) throw corrupt(`${fileBytes - position} bytes after the last tensor belong to none`);
  return { tensors, metadata };
}

/**
 * Opens a whole file held in memory. Nothing is copied.
 * @throws DataError when any part of it is invalid.
 */
export function readSafetensors(bytes: Uint8Array): Safetensors {
  const { tensors: places, metadata } = readSafetensorsHeader(bytes, bytes.length);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, begin, end }] of places) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(begin, end) });
  }
  const find = (name: string): StoredTensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new DataError(`The safetensors file has no tensor "${name}" (it has ${tensors.size} others).`);
    return tensor;
  };
  return {
    tensors,
    metadata,
    float32: (name) => {
      const tensor = find(name);
      const values = tensorToFloat32(tensor);
      if (!values) throw new DataError(`Tensor "${name}" has type ${tensor.dtype}; floating numbers were expected.`);
      return values;
    },
    float64: (name) => tensorToFloat64(find(name), name),
  };
}

/** What a file says of a tensor before its bytes. */
export interface TensorOutline {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

/**
 * The start of a file and the order in which the tensors' bytes follow it, for states that are written as they are read
 * from elsewhere. The order depends on types and names only.
 * @throws DataError when two tensors have one name
 */
export function safetensorsHeader<T extends TensorOutline>(
  tensors: Iterable<readonly [string, T]>,
  metadata: Readonly<Record<string, string>> = {},
): { readonly header: Uint8Array; readonly order: readonly (readonly [string, T])[] } {
  const order = [...tensors].sort(
    ([nameA, a], [nameB, b]) => ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype] || compareNames(nameA, nameB),
  );
  const fields: string[] = [];
  const metadataFields = Object.entries(metadata).sort(([a], [b]) => compareNames(a, b));
  if (metadataFields.length > 0) {
    // Written by hand: a JavaScript object would put number-like keys first.
    const pairs = metadataFields.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    fields.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  const seen = new Set<string>();
  let offset = 0;
  for (const [name, { dtype, shape }] of order) {
    if (name === '__metadata__' || seen.has(name)) throw new DataError(`Two tensors to write are called "${name}".`);
    seen.add(name);
    const end = offset + elementCount(shape) * ELEMENT_BYTES[dtype];
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`);
  // Spaces up to a multiple of eight, so that the first tensor starts aligned.
  const header = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return { header, order };
}

/**
 * The bytes of a file, in pieces that share the tensors' memory, for writing states too large to hold twice.
 * @throws DataError when a tensor's bytes do not match its shape.
 */
export function* safetensorsChunks(
  tensors: Iterable<readonly [string, TensorToStore]>,
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  const { header, order } = safetensorsHeader(tensors, metadata);
  for (const [name, { dtype, shape, data }] of order) {
    const expected = elementCount(shape) * ELEMENT_BYTES[dtype];
    if (data.byteLength !== expected) {
      throw new DataError(
        `Tensor "${name}" has ${data.byteLength} bytes; ${dtype} [${shape.join(', ')}] needs ${expected}.`,
      );
    }
  }
  yield header;
  for (const [, { data }] of order) yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * A whole file in memory. The bytes depend only on the arguments' content, not on their order.
 * @throws DataError when a tensor's bytes do not match its shape.
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, TensorToStore]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const chunks = [...safetensorsChunks(tensors, metadata)];
  const file = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let position = 0;
  for (const chunk of chunks) {
    file.set(chunk, position);
    position += chunk.length;
  }
  return file;
}

/** IEEE half bits as float32, exact. */
export function halfToFloat32(bits: Uint16Array): Float32Array {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const exponent = (bits[i] >> 10) & 31;
    const fraction = bits[i] & 1023;
    let value: number;
    if (exponent === 31) value = fraction ? Number.NaN : Number.POSITIVE_INFINITY;
    else if (exponent === 0) value = fraction * 2 ** -24;
    else value = (1024 + fraction) * 2 ** (exponent - 25);
    out[i] = bits[i] & 0x8000 ? -value : value;
  }
  return out;
}

/** float32 as IEEE half bits, rounded to nearest, ties to even; beyond ±65504 (rounded) it becomes infinite. */
export function float32ToHalf(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  const bitsOf = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const bits = bitsOf[i];
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) out[i] = sign | 0x7e00;
    else if (magnitude >= 0x47800000) out[i] = sign | 0x7c00;
    else if (magnitude >= 0x38800000) {
      // Normal half: rebias the exponent, round away 13 bits; a carry moves into the exponent, as it should.
      const rebiased = magnitude - 0x38000000;
      out[i] = sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
    } else {
      // Subnormal half: the value in units of 2^-24, rounded half to even.
      const units = Math.abs(values[i]) * 2 ** 24;
      const floor = Math.floor(units);
      const rest = units - floor;
      out[i] = sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
    }
  }
  return out;
}

/** bfloat16 bits as float32, exact. */
export function bfloat16ToFloat32(bits: Uint16Array): Float32Array {
  const wide = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) wide[i] = bits[i] << 16;
  return new Float32Array(wide.buffer);
}

function tensorToFloat32({ dtype, data }: StoredTensor): Float32Array | undefined {
  switch (dtype) {
    case 'F32': {
      const whole = aligned(data, 4);
      return new Float32Array(whole.buffer, whole.byteOffset, whole.length / 4);
    }
    case 'F16':
      return halfToFloat32(uint16(data));
    case 'BF16':
      return bfloat16ToFloat32(uint16(data));
    case 'F64': {
      const whole = aligned(data, 8);
      return new Float32Array(new Float64Array(whole.buffer, whole.byteOffset, whole.length / 8));
    }
    default:
      return undefined;
  }
}

function tensorToFloat64(tensor: StoredTensor, name: string): Float64Array {
  const { dtype, data } = tensor;
  const count = data.length / ELEMENT_BYTES[dtype];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const read = (at: (i: number) => number) => Float64Array.from({ length: count }, (_, i) => at(i));
  const exact = (value: bigint): number => {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) {
      throw new DataError(`Tensor "${name}" holds ${value}, beyond what a number keeps exactly.`);
    }
    return number;
  };
  switch (dtype) {
    case 'F64':
      return read((i) => view.getFloat64(8 * i, true));
    case 'I64':
      return read((i) => exact(view.getBigInt64(8 * i, true)));
    case 'U64':
      return read((i) => exact(view.getBigUint64(8 * i, true)));
    case 'I32':
      return read((i) => view.getInt32(4 * i, true));
    case 'U32':
      return read((i) => view.getUint32(4 * i, true));
    case 'I16':
      return read((i) => view.getInt16(2 * i, true));
    case 'U16':
      return read((i) => view.getUint16(2 * i, true));
    case 'I8':
      return read((i) => view.getInt8(i));
    case 'U8':
    case 'BOOL':
      return Float64Array.from(data);
    default:
      return Float64Array.from(tensorToFloat32(tensor)!);
  }
}

function uint16(data: Uint8Array): Uint16Array {
  const whole = aligned(data, 2);
  return new Uint16Array(whole.buffer, whole.byteOffset, whole.length / 2);
}

/** The same bytes where typed arrays of this element size can lie; copied only when they do not yet. */
function aligned(data: Uint8Array, elementBytes: number): Uint8Array {
  return data.byteOffset % elementBytes === 0 ? data : Uint8Array.prototype.slice.call(data);
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw corrupt('its header is not JSON', cause);
  }
  if (!isRecord(header)) throw corrupt('its header is not a JSON object');
  return header;
}

function checkMetadata(entry: unknown): Record<string, string> {
  if (!isRecord(entry) || Object.values(entry).some((value) => typeof value !== 'string')) {
    throw corrupt('its __metadata__ is not a table of strings');
  }
  return entry as Record<string, string>;
}

function checkEntry(name: string, entry: unknown, dataStart: number): TensorPlace {
  if (!isRecord(entry)) throw corrupt(`the entry of tensor "${name}" is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    const known = Object.keys(ELEMENT_BYTES).join(', ');
    throw corrupt(`tensor "${name}" has the unknown type ${JSON.stringify(dtype)} (known: ${known})`);
  }
  if (!isCountArray(shape)) throw corrupt(`tensor "${name}" has the shape ${JSON.stringify(shape)}`);
  if (!isCountArray(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw corrupt(`tensor "${name}" has the offsets ${JSON.stringify(offsets)}`);
  }
  const expected = elementCount(shape) * ELEMENT_BYTES[dtype as SafetensorsDtype];
  const [begin, end] = offsets;
  if (end - begin !== expected) {
    throw corrupt(`tensor "${name}" takes ${end - begin} bytes; ${dtype} [${shape.join(', ')}] needs ${expected}`);
  }
  return { dtype: dtype as SafetensorsDtype, shape, begin: dataStart + begin, end: dataStart + end };
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function isCountArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** By UTF-16 code units: the same everywhere, whatever the locale. */
function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function corrupt(reason: string, cause?: unknown): DataError {
  return new DataError(`Not a valid safetensors file: ${reason}. Nothing was loaded.`, { cause });
}
