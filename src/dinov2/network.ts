/** A backbone with its heads, as students and teachers are: the names of its parts, and how rows go through a head. */

import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import type { ParameterSpec, ParameterStore } from '../tensor/parameters.js';
import { type HeadConfig, headFeatures, headParameters, headPrototypes } from './head.js';
import { type VitConfig, vitParameters, weightsOf } from './vit.js';

/** Sub-modules by the first part of their parameters' names. */
export const PREFIX = { backbone: 'backbone.', dino: 'dino_head.', ibot: 'ibot_head.' } as const;

/** The sizes of a network. */
export interface NetworkConfig {
  readonly vit: VitConfig;
  readonly dinoHead: HeadConfig;
  /** A head of its own for the patches; without it they go through the DINO head. */
  readonly ibotHead?: HeadConfig;
}

/** A network and where its weights are, under the prefixes of `PREFIX`. */
export interface Network extends NetworkConfig {
  readonly backbone: ParameterStore;
  readonly heads: ParameterStore;
}

/** The parameters of the heads, with their prefixes. */
export function headsParameters({ dinoHead, ibotHead }: Omit<NetworkConfig, 'vit'>): ParameterSpec[] {
  return [...headParameters(dinoHead, PREFIX.dino), ...(ibotHead ? headParameters(ibotHead, PREFIX.ibot) : [])];
}

/** All parameters, with their prefixes. */
export function networkParameters(config: NetworkConfig): ParameterSpec[] {
  return [...vitParameters(config.vit, PREFIX.backbone), ...headsParameters(config)];
}

/** The head of DINO or, without one of its own, of iBOT too: its features of some rows, and its prototypes. */
export function recordHead(graph: Graph, network: Omit<Network, 'vit' | 'backbone'>, name: 'dino' | 'ibot') {
  const own = name === 'ibot' && network.ibotHead !== undefined;
  const config = own ? network.ibotHead : network.dinoHead;
  const weights = weightsOf(network.heads, own ? PREFIX.ibot : PREFIX.dino);
  const inScope = (body: () => Tensor): Tensor => graph.program.scope(`${name}_head`, body);
  return {
    features: (x: Tensor) => inScope(() => headFeatures(graph, config, weights, x)),
    prototypes: inScope(() => headPrototypes(graph, weights)),
  };
}
