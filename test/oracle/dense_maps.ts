/** Operators over feature maps in float64: channels last, a pixel a row. */

export interface MapSize {
  readonly pictures: number;
  readonly height: number;
  readonly width: number;
}

export function relu(x: ArrayLike<number>, offset = 0): Float64Array {
  return Float64Array.from(x, (v) => Math.max(v, 0) + offset);
}

/** @param parts matrices by their columns; one with fewer rows is repeated */
export function concatColumns(parts: readonly { data: ArrayLike<number>; columns: number }[]): Float64Array {
  const rows = Math.max(...parts.map(({ data, columns }) => data.length / columns));
  const values: number[] = [];
  for (let r = 0; r < rows; r++) {
    for (const { data, columns } of parts) {
      const from = Math.floor(r / (rows / (data.length / columns))) * columns;
      for (let c = 0; c < columns; c++) values.push(data[from + c]);
    }
  }
  return Float64Array.from(values);
}

/** Batch norm with the batch's statistics, or with those given. */
export function batchNorm(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  running?: { mean: ArrayLike<number>; variance: ArrayLike<number> },
): Float64Array {
  const columns = weight.length;
  const rows = x.length / columns;
  const { mean, variance } = running ?? columnMoments(x, columns);
  return Float64Array.from({ length: rows * columns }, (_, i) => {
    const c = i % columns;
    return ((x[i] - mean[c]) / Math.sqrt(variance[c] + 1e-5)) * weight[c] + bias[c];
  });
}

/** Mean and biased variance of columns. */
export function columnMoments(x: ArrayLike<number>, columns: number): { mean: Float64Array; variance: Float64Array } {
  const rows = x.length / columns;
  const mean = new Float64Array(columns);
  const variance = new Float64Array(columns);
  for (let i = 0; i < x.length; i++) mean[i % columns] += x[i] / rows;
  for (let i = 0; i < x.length; i++) variance[i % columns] += (x[i] - mean[i % columns]) ** 2 / rows;
  return { mean, variance };
}

/** Bilinear resize by the definition: each output's place in the input, both ways to place the corners. */
export function resizeBilinear(
  x: ArrayLike<number>,
  { pictures, height, width }: MapSize,
  channels: number,
  to: { height: number; width: number; alignCorners: boolean },
): Float64Array {
  const place = (o: number, inputs: number, outputs: number): number => {
    if (to.alignCorners) return outputs > 1 ? (o * (inputs - 1)) / (outputs - 1) : 0;
    return Math.max(0, ((o + 0.5) * inputs) / outputs - 0.5);
  };
  const y = new Float64Array(pictures * to.height * to.width * channels);
  let i = 0;
  for (let n = 0; n < pictures; n++) {
    for (let v = 0; v < to.height; v++) {
      const down = place(v, height, to.height);
      const [v0, v1] = [Math.floor(down), Math.min(Math.floor(down) + 1, height - 1)];
      for (let u = 0; u < to.width; u++) {
        const across = place(u, width, to.width);
        const [u0, u1] = [Math.floor(across), Math.min(Math.floor(across) + 1, width - 1)];
        for (let c = 0; c < channels; c++) {
          const at = (j: number, k: number): number => x[((n * height + j) * width + k) * channels + c];
          const [a, b] = [down - v0, across - u0];
          y[i++] = (1 - a) * ((1 - b) * at(v0, u0) + b * at(v0, u1)) + a * ((1 - b) * at(v1, u0) + b * at(v1, u1));
        }
      }
    }
  }
  return y;
}

/** 3 x 3 convolution with one pixel of zeros around. @param weight [outputs, channels, 3, 3] */
export function convolution3x3(
  x: ArrayLike<number>,
  { pictures, height, width }: MapSize,
  weight: ArrayLike<number>,
  outputs: number,
  bias: ArrayLike<number> | undefined,
  stride: number,
): Float64Array {
  const channels = weight.length / outputs / 9;
  const [outHeight, outWidth] = [Math.floor((height - 1) / stride) + 1, Math.floor((width - 1) / stride) + 1];
  const y = new Float64Array(pictures * outHeight * outWidth * outputs);
  let i = 0;
  for (let n = 0; n < pictures; n++) {
    for (let v = 0; v < outHeight; v++) {
      for (let u = 0; u < outWidth; u++) {
        for (let o = 0; o < outputs; o++, i++) {
          let sum = bias ? bias[o] : 0;
          for (let ky = 0; ky < 3; ky++) {
            for (let kx = 0; kx < 3; kx++) {
              const [j, k] = [v * stride + ky - 1, u * stride + kx - 1];
              if (j < 0 || k < 0 || j >= height || k >= width) continue;
              for (let c = 0; c < channels; c++) {
                sum += x[((n * height + j) * width + k) * channels + c] * weight[(o * channels + c) * 9 + ky * 3 + kx];
              }
            }
          }
          y[i] = sum;
        }
      }
    }
  }
  return y;
}

/** Transposed convolution whose kernel is as wide as its stride. @param weight [channels, outputs, k, k] */
export function transposedConvolution(
  x: ArrayLike<number>,
  { pictures, height, width }: MapSize,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  k: number,
): Float64Array {
  const outputs = bias.length;
  const channels = weight.length / outputs / (k * k);
  const y = new Float64Array(pictures * height * k * width * k * outputs);
  for (let i = 0; i < y.length; i++) {
    const o = i % outputs;
    const pixel = Math.floor(i / outputs);
    const u = pixel % (width * k);
    const line = Math.floor(pixel / (width * k));
    const from = (Math.floor(line / k) * width + Math.floor(u / k)) * channels;
    y[i] = bias[o];
    for (let c = 0; c < channels; c++) {
      y[i] += x[from + c] * weight[((c * outputs + o) * k + (line % k)) * k + (u % k)];
    }
  }
  return y;
}
