/** Errors that a person can act on. Each carries the exit code the command line leaves with. */

/** Base of the errors that are reported as one line, without a stack. */
export class WebdinoError extends Error {
  readonly exitCode: number = 1;
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A wrong option, an unknown configuration key, a value out of range. */
export class UsageError extends WebdinoError {
  override readonly exitCode: number = 2;
}

/** No adapter could be opened; the message holds the line to run. */
export class NoGpuError extends WebdinoError {
  override readonly exitCode: number = 3;
}

/** Data that cannot be used: no pictures, an unreadable archive, a corrupt checkpoint. */
export class DataError extends WebdinoError {
  override readonly exitCode: number = 4;
}

/** The GPU refused or lost something: a shader, a buffer, the device itself. */
export class GpuError extends WebdinoError {}
