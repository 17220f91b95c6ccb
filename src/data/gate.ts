/** A limit on how many pictures are decoded at once: each may take hundreds of megabytes while it is. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(slots: number) {
    this.#free = slots;
  }

  /** Runs `task` when a slot is free; tasks start in the order of the calls. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      // The slot is handed on directly, or freed.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
