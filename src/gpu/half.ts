/** IEEE 754 binary16 on the CPU: what the GPU's pack2x16float and unpack2x16float do, round to nearest, ties to even. */

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The half nearest to `value`, as its bits; overflow is infinity, NaN stays NaN. */
export function halfBits(value: number): number {
  float[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 is half way between the largest half and the next power of two.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: units of 2^-24. Math.round breaks ties upwards, so ties are looked at.
    const units = Math.abs(float[0]) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (floor + Number(rest > 0.5 || (rest === 0.5 && floor % 2 === 1)));
  }
  const rebiased = magnitude - 0x38000000;
  return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
}

export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Halves in the order of the values, in whole words (an odd count ends with a zero). */
export function toHalf(values: Float32Array): Uint16Array {
  const halves = new Uint16Array(2 * Math.ceil(values.length / 2));
  for (let i = 0; i < values.length; i++) halves[i] = halfBits(values[i]);
  return halves;
}

/** The value of every pattern of bits, made at first use: features are read back by the hundred million. */
let valueOfBits: Float32Array | undefined;

export function fromHalf(halves: Uint16Array): Float32Array {
  valueOfBits ??= Float32Array.from({ length: 65536 }, (_, bits) => halfValue(bits));
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) floats[i] = valueOfBits[halves[i]];
  return floats;
}
