/** Pictures of features: what convolutions and resizes work on. Channels last, so that a pixel is a row. */

import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';

export interface FeatureMap {
  /** f32 [pictures * height * width, channels], row by row of each picture. */
  readonly values: Tensor;
  readonly pictures: number;
  readonly height: number;
  readonly width: number;
}

/** @throws GpuError for values that are not float32 */
export function assertFloat32(operator: string, ...tensors: (Tensor | undefined)[]): void {
  for (const tensor of tensors) {
    if (tensor && tensor.dtype !== 'f32') {
      throw new GpuError(`${operator}: ${tensor.name} is ${tensor.dtype}; dense heads are float32`);
    }
  }
}

/** @throws GpuError where the values are not one float32 row a pixel */
export function assertMap(operator: string, { values, pictures, height, width }: FeatureMap): void {
  assertFloat32(operator, values);
  if (values.rows !== pictures * height * width) {
    throw new GpuError(
      `${operator}: ${values.name} [${values.shape}] has not a row for each pixel of ${pictures} x ${height} x ${width}`,
    );
  }
}
