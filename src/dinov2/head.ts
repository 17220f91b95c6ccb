/** The projection head of DINO and iBOT: an MLP, a normalised bottleneck, weight-normed prototypes (spec §2.1). */

import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import { l2Normalize } from '../tensor/l2_normalize.js';
import { type LinearLayer, mlp } from '../tensor/linear.js';
import type { ParameterSpec } from '../tensor/parameters.js';
import { weightNorm } from '../tensor/weight_norm.js';
import type { Weights } from './vit.js';

export interface HeadConfig {
  readonly inputs: number;
  readonly hidden: number;
  readonly bottleneck: number;
  readonly prototypes: number;
  readonly layers: number;
}

/** Widths of the MLP's linear layers, whose official names are mlp.0, mlp.2, mlp.4. */
function widths({ inputs, hidden, bottleneck, layers }: HeadConfig): number[] {
  return [inputs, ...new Array<number>(Math.max(layers - 1, 0)).fill(hidden), bottleneck];
}

/** A head of one layer has no Sequential around it in the official code: its linear is called `mlp`. */
function layerName(config: HeadConfig, layer: number): string {
  return config.layers <= 1 ? 'mlp' : `mlp.${2 * layer}`;
}

export function headParameters(config: HeadConfig, prefix: string): ParameterSpec[] {
  const sizes = widths(config);
  const specs: ParameterSpec[] = [];
  for (let l = 0; l + 1 < sizes.length; l++) {
    specs.push({ name: `${prefix}${layerName(config, l)}.weight`, shape: [sizes[l + 1], sizes[l]] });
    specs.push({ name: `${prefix}${layerName(config, l)}.bias`, shape: [sizes[l + 1]] });
  }
  specs.push({ name: `${prefix}last_layer.weight_g`, shape: [config.prototypes, 1] });
  specs.push({ name: `${prefix}last_layer.weight_v`, shape: [config.prototypes, config.bottleneck] });
  return specs;
}

/** The linear layers of the head's MLP. */
export function headLayers(config: HeadConfig, weights: Weights): LinearLayer[] {
  return Array.from({ length: widths(config).length - 1 }, (_, l) => ({
    weight: weights.get(`${layerName(config, l)}.weight`),
    bias: weights.get(`${layerName(config, l)}.bias`),
  }));
}

/**
 * The head up to its last layer.
 * @param x [R, inputs]
 * @returns unit rows [R, bottleneck]
 */
export function headFeatures(graph: Graph, config: HeadConfig, weights: Weights, x: Tensor): Tensor {
  return l2Normalize(graph, mlp(graph, x, headLayers(config, weights)));
}

/**
 * The weight of the last layer, whose logits are features weightᵀ. Once a step and network: all rows share it.
 * @returns [prototypes, bottleneck]
 */
export function headPrototypes(graph: Graph, weights: Weights): Tensor {
  return weightNorm(graph, weights.get('last_layer.weight_v'), weights.get('last_layer.weight_g'));
}
