/** Ctrl-C: once asks the run to stop at a checkpoint, twice ends it at once. */

/** One press can arrive twice within moments: from the terminal, and passed on by npm. */
const SAME_PRESS_MS = 500;

/** Exit code of a program that Ctrl-C ended, by the shells' convention: 128 + SIGINT. */
const INTERRUPTED = 130;

/**
 * Runs `task` with a signal that Ctrl-C (or SIGTERM) raises.
 * @param onFirst says what happens now
 */
export async function interruptible<T>(task: (signal: AbortSignal) => Promise<T>, onFirst: () => void): Promise<T> {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const interrupt = (): void => {
    if (firstMs === undefined) {
      firstMs = performance.now();
      controller.abort();
      onFirst();
    } else if (performance.now() - firstMs > SAME_PRESS_MS) {
      process.exit(INTERRUPTED);
    }
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    return await task(controller.signal);
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}
