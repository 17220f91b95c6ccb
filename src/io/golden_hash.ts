/**
 * The hash that fills the inputs and weights of the golden cases (outputs of the reference PyTorch modules), so that a
 * case of any size needs no weight file. Values are float32 and every step of the arithmetic rounds to float32.
 */

/** FNV-1a, 32 bits, over the UTF-8 bytes of `text`. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** `count` float32 values in [-1, 1): the murmur3 finaliser over index * 0x9E3779B1 + fnv1a(name) + seed * 0x85EBCA6B. */
export function hashUniform(name: string, count: number, seed = 0): Float32Array {
  const start = (fnv1a(name) + Math.imul(seed, 0x85ebca6b)) | 0;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let h = (Math.imul(i, 0x9e3779b1) + start) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h ^= h >>> 16;
    values[i] = (h >>> 8) / 2 ** 23 - 1;
  }
  return values;
}

/** The value of a parameter of a golden case, by the last part of its state-dict name and its shape. */
export function goldenParameter(name: string, shape: readonly number[], seed = 0): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1);
  const { offset, scale } = parameterRange(name.slice(name.lastIndexOf('.') + 1), shape);
  const values = hashUniform(name, count, seed);
  for (let i = 0; i < count; i++) values[i] = offset + Math.fround(scale * values[i]);
  return values;
}

/** Parameters are offset + scale * u. */
function parameterRange(leaf: string, shape: readonly number[]): { offset: number; scale: number } {
  switch (leaf) {
    case 'gamma':
      return { offset: 0.5, scale: 0.25 };
    case 'weight_g':
      return { offset: 1, scale: 0 };
    case 'bias':
      return { offset: 0, scale: Math.fround(0.05) };
    case 'cls_token':
    case 'pos_embed':
    case 'mask_token':
    case 'register_tokens':
      return { offset: 0, scale: 0.5 };
  }
  // Weights of norms, then matrices and the patch convolution.
  if (shape.length === 1) return { offset: 1, scale: Math.fround(0.1) };
  const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
  return { offset: 0, scale: Math.fround(Math.sqrt(3 / fanIn)) };
}

/** An image or an upstream gradient of a golden case: 1.5 u. */
export function goldenImage(name: string, shape: readonly number[], seed = 0): Float32Array {
  const values = hashUniform(
    name,
    shape.reduce((a, b) => a * b, 1),
    seed,
  );
  return values.map((u) => 1.5 * u);
}
