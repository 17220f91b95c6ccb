/** The one place where an error becomes a line on standard error and an exit code. */

import { WebdinoError } from '../errors.js';

/**
 * Prints an error as a person needs it: ours in one line, anything else with its stack, because it is a fault of this program.
 * @returns the exit code: 1 failed, 2 usage, 3 no GPU, 4 bad data
 */
export function reportFailure(error: unknown): number {
  if (error instanceof WebdinoError) {
    console.error(`webdino: ${error.message.trim()}`);
    return error.exitCode;
  }
  console.error(error instanceof Error ? (error.stack ?? error.message) : error);
  return 1;
}
