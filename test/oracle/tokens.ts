/** Token assembly, position resizing, residual and SwiGLU in float64, written from the specification. */

export function swiglu(x: ArrayLike<number>, hidden: number): Float64Array {
  const rows = x.length / (2 * hidden);
  return Float64Array.from({ length: rows * hidden }, (_, i) => {
    const at = Math.floor(i / hidden) * 2 * hidden + (i % hidden);
    return (x[at] / (1 + Math.exp(-x[at]))) * x[at + hidden];
  });
}

/** Mode A of spec §1.4, one output at a time: bicubic with A = -0.75 at the given scale, indices clamped. */
export function resizeModeA(
  grid: (y: number, x: number) => number,
  side: number,
  height: number,
  width: number,
  offset: number,
): number[] {
  const A = -0.75;
  const near = (d: number): number => ((A + 2) * d - (A + 3)) * d * d + 1;
  const far = (d: number): number => ((A * d - 5 * A) * d + 8 * A) * d - 4 * A;
  const clamp = (i: number): number => Math.min(Math.max(i, 0), side - 1);
  const taps = (o: number, to: number): [number, number][] => {
    const s = ((o + 0.5) * side) / (to + offset) - 0.5;
    const i = Math.floor(s);
    const t = s - i;
    return [
      [clamp(i - 1), far(1 + t)],
      [clamp(i), near(t)],
      [clamp(i + 1), near(1 - t)],
      [clamp(i + 2), far(2 - t)],
    ];
  };
  const out: number[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [j, wy] of taps(y, height)) for (const [i, wx] of taps(x, width)) sum += wy * wx * grid(j, i);
      out.push(sum);
    }
  }
  return out;
}

export interface OracleGroup {
  count: number;
  patches: number;
  position: ArrayLike<number>;
  mask?: ArrayLike<number>;
}

export function packTokens(
  embedded: ArrayLike<number>,
  groups: readonly OracleGroup[],
  cls: ArrayLike<number>,
  registers: ArrayLike<number>,
  maskToken: ArrayLike<number>,
  D: number,
): Float64Array {
  const out: number[] = [];
  let patch = 0;
  for (const { count, patches, position, mask } of groups) {
    for (let s = 0; s < count; s++) {
      for (let d = 0; d < D; d++) out.push(cls[d] + position[d]);
      for (let i = 0; i < registers.length; i++) out.push(registers[i]);
      for (let p = 0; p < patches; p++, patch++) {
        const masked = mask !== undefined && mask[s * patches + p] !== 0;
        for (let d = 0; d < D; d++)
          out.push((masked ? maskToken[d] : embedded[patch * D + d]) + position[(1 + p) * D + d]);
      }
    }
  }
  return Float64Array.from(out);
}
