/** Bilinear resize of feature maps with its gradient (PyTorch's `interpolate(mode='bilinear')`, no antialiasing). */

import * as resizeKernel from '../../kernels/resize_bilinear.js';
import * as backwardKernel from '../../kernels/resize_bilinear_backward.js';
import { GpuError } from '../errors.js';
import { assertMap, type FeatureMap } from './feature_map.js';
import type { Graph } from './graph.js';

export interface BilinearSize {
  readonly height: number;
  readonly width: number;
  /** Whether the centres of the corner pixels meet (fusion blocks of DPT) or the pictures' edges do (all else). */
  readonly alignCorners: boolean;
}

function joined(down: Uint32Array, across: Uint32Array): Uint32Array {
  const both = new Uint32Array(down.length + across.length);
  both.set(down);
  both.set(across, down.length);
  return both;
}

/**
 * @param map any number of channels
 * @returns the map itself where it has this size
 * @throws GpuError for a size below one pixel
 */
export function resizeBilinear(graph: Graph, map: FeatureMap, size: BilinearSize): FeatureMap {
  const { program } = graph;
  const { values: x, pictures } = map;
  const { height, width, alignCorners } = size;
  assertMap('resizeBilinear', map);
  if (!(height >= 1 && width >= 1)) throw new GpuError(`resizeBilinear: no picture has ${height} x ${width} pixels`);
  if (height === map.height && width === map.width) return map;
  const params = {
    pictures,
    inHeight: map.height,
    inWidth: map.width,
    outHeight: height,
    outWidth: width,
    channels: x.columns,
  };
  const down = resizeKernel.axisTaps(map.height, height, alignCorners);
  const across = resizeKernel.axisTaps(map.width, width, alignCorners);
  const taps = program.constant('resize_taps', [height + width, 2], joined(down, across));
  const y = program.intermediate('resized', [pictures * height * width, x.columns]);
  program.dispatch(resizeKernel.plan(params), [x, taps, y]);
  if (graph.needsGradient(x)) {
    const inputs = [resizeKernel.axisRanges(map.height, down), resizeKernel.axisRanges(map.width, across)] as const;
    const ranges = program.constant('resize_ranges', [map.height + map.width, 2], joined(...inputs));
    graph.onBackward([y], ([dy]) => {
      if (!dy) return;
      graph.contribute(x, (into) => program.dispatch(backwardKernel.plan(params), [dy, taps, ranges, into]));
    });
  }
  return { values: y, pictures, height, width };
}
