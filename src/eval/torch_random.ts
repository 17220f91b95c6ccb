/**
 * PyTorch's CPU generator (the 32-bit Mersenne Twister, Matsumoto and Nishimura 1998) as far as the evaluations draw from
 * it, so that "the first n of a random permutation after manual_seed(t)" means the same pictures here.
 */

const STATE_WORDS = 624;
const SHIFT_WORDS = 397;

/** The generator after `torch.manual_seed(seed)`. */
export class TorchRandom {
  private readonly state = new Uint32Array(STATE_WORDS);
  private position = STATE_WORDS;

  /** @param seed whole number from 0; its lower 32 bits count */
  constructor(seed: number) {
    const { state } = this;
    state[0] = seed;
    for (let i = 1; i < STATE_WORDS; i++) {
      const previous = state[i - 1] ^ (state[i - 1] >>> 30);
      state[i] = Math.imul(1812433253, previous) + i;
    }
  }

  /** The next 32 random bits. */
  next(): number {
    if (this.position === STATE_WORDS) this.renew();
    let word = this.state[this.position++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  /** What `torch.randperm(n)` gives, for n below 2^32 / 20. */
  permutation(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const other = i + (this.next() % (n - i));
      [order[i], order[other]] = [order[other], order[i]];
    }
    return order;
  }

  private renew(): void {
    const { state } = this;
    for (let i = 0; i < STATE_WORDS; i++) {
      const word = (state[i] & 0x80000000) | (state[(i + 1) % STATE_WORDS] & 0x7fffffff);
      state[i] = state[(i + SHIFT_WORDS) % STATE_WORDS] ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }
}
