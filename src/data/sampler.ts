/**
 * In which order pictures are visited (spec §3.5). The official samplers are generators that a resumed run cannot
 * continue; these are functions of a position, so a run is resumed by one integer. The orders follow the official
 * rules, not PyTorch's random numbers.
 */
import { DataError } from '../errors.js';
import { CounterRandom, RandomPurpose } from './random.js';

/** Sample number `position` (0, 1, 2, … over all epochs) of this rank is picture `at(position)`. */
export interface Sampler {
  at(position: number): number;
}

/** Common options: `rank` of `world` processes, each of which visits its own pictures. */
export interface SamplerOptions {
  /** Pictures in the source. */
  readonly length: number;
  readonly seed: number;
  readonly rank?: number;
  readonly world?: number;
  /** false: the source's own order in every epoch. Default true. */
  readonly shuffle?: boolean;
}

/** A sampler that goes through finite passes; the orders of the last two passes are kept, as prefetching straddles. */
abstract class PassSampler implements Sampler {
  protected readonly length: number;
  protected readonly seed: number;
  protected readonly rank: number;
  protected readonly world: number;
  protected readonly shuffle: boolean;
  #recent: { pass: number; order: Uint32Array }[] = [];

  constructor(options: SamplerOptions) {
    this.length = options.length;
    this.seed = options.seed;
    this.rank = options.rank ?? 0;
    this.world = options.world ?? 1;
    this.shuffle = options.shuffle ?? true;
    if (!(this.rank >= 0 && this.rank < this.world)) {
      throw new RangeError(`rank ${this.rank} is not one of ${this.world}`);
    }
  }

  /** Samples this rank visits in one pass. */
  abstract readonly perPass: number;

  /** This rank's order in pass `pass`: `perPass` picture indices. */
  protected abstract order(pass: number): Uint32Array;

  at(position: number): number {
    const pass = Math.floor(position / this.perPass);
    let kept = this.#recent.find((one) => one.pass === pass);
    if (!kept) {
      kept = { pass, order: this.order(pass) };
      this.#recent = [kept, ...this.#recent.slice(0, 1)];
    }
    return kept.order[position - pass * this.perPass];
  }

  /** A permutation of 0…n−1 named by `stream`, or the identity without shuffling. */
  protected permutation(n: number, ...stream: number[]): Uint32Array {
    if (this.shuffle) return new CounterRandom(this.seed, RandomPurpose.order, ...stream).permutation(n);
    return Uint32Array.from({ length: n }, (_, i) => i);
  }

  /** Every `world`-th element from `rank`, `count` of them. */
  protected stride(order: Uint32Array, count: number): Uint32Array {
    return Uint32Array.from({ length: count }, (_, i) => order[this.rank + i * this.world]);
  }

  /** How many elements `stride` finds in a list of `length`. */
  protected strideLength(length: number): number {
    return Math.max(0, Math.ceil((length - this.rank) / this.world));
  }

  protected requireSamples(count: number): number {
    if (count > 0) return count;
    throw new DataError(
      `${this.length} pictures cannot be shared by ${this.world} processes: use more pictures or fewer processes`,
    );
  }
}

/** Streams of the two kinds of permutation, so that an epoch's shuffle never equals the global one. */
const GLOBAL_ORDER = 0;
const EPOCH_ORDER = 1;

/**
 * SHARDED_INFINITE, the training sampler: one global permutation, of which this rank owns every `world`-th element (the
 * remainder of n / world is dropped); the shard's members never change, its order is shuffled anew each epoch.
 */
export class ShardedInfiniteSampler extends PassSampler {
  readonly perPass: number;
  readonly #shard: Uint32Array;

  constructor(options: SamplerOptions) {
    super(options);
    this.perPass = this.requireSamples(Math.floor(this.length / this.world));
    this.#shard = this.stride(this.permutation(this.length, GLOBAL_ORDER), this.perPass);
  }

  protected order(pass: number): Uint32Array {
    return this.permutation(this.perPass, EPOCH_ORDER, this.rank, pass).map((i) => this.#shard[i]);
  }
}

/** INFINITE: a new global permutation each pass; this rank takes every `world`-th element of it. */
export class InfiniteSampler extends PassSampler {
  readonly perPass: number;

  constructor(options: SamplerOptions) {
    super(options);
    this.perPass = this.requireSamples(this.strideLength(this.length));
  }

  protected order(pass: number): Uint32Array {
    return this.stride(this.permutation(this.length, EPOCH_ORDER, pass), this.perPass);
  }
}

/**
 * EPOCH: an epoch of `size` samples over all ranks, drawn without replacement from the pictures repeated as often as
 * needed; an epoch may be smaller or larger than the source.
 */
export class EpochSampler extends PassSampler {
  readonly perPass: number;
  readonly #size: number;

  constructor(options: SamplerOptions & { readonly size: number }) {
    super(options);
    this.#size = options.size;
    this.perPass = this.requireSamples(this.length > 0 ? this.strideLength(this.#size) : 0);
  }

  protected order(pass: number): Uint32Array {
    const tiled = Math.ceil(this.#size / this.length) * this.length;
    return this.stride(this.permutation(tiled, EPOCH_ORDER, pass), this.perPass).map((i) => i % this.length);
  }
}

/**
 * DISTRIBUTED, the evaluation sampler: a permutation an epoch, padded by repetition until every rank has the same
 * number, strided. Without shuffling every picture is visited in order.
 */
export class DistributedSampler extends PassSampler {
  readonly perPass: number;

  constructor(options: SamplerOptions) {
    super(options);
    this.perPass = this.requireSamples(this.length > 0 ? Math.ceil(this.length / this.world) : 0);
  }

  protected order(pass: number): Uint32Array {
    const order = this.permutation(this.length, EPOCH_ORDER, pass);
    return Uint32Array.from({ length: this.perPass }, (_, i) => order[(this.rank + i * this.world) % this.length]);
  }
}

/** The official names. `SHARDED_INFINITE_NEW` differs from `SHARDED_INFINITE` only in PyTorch's shuffling routine. */
export type SamplerType = 'DISTRIBUTED' | 'EPOCH' | 'INFINITE' | 'SHARDED_INFINITE' | 'SHARDED_INFINITE_NEW';

/** Makes the sampler of an official name; `size` is the epoch of EPOCH, by default the source's length. */
export function createSampler(type: SamplerType, options: SamplerOptions & { readonly size?: number }): Sampler {
  switch (type) {
    case 'DISTRIBUTED':
      return new DistributedSampler(options);
    case 'EPOCH':
      return new EpochSampler({ ...options, size: options.size ?? options.length });
    case 'INFINITE':
      return new InfiniteSampler(options);
    case 'SHARDED_INFINITE':
    case 'SHARDED_INFINITE_NEW':
      return new ShardedInfiniteSampler(options);
  }
}
