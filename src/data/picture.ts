/** What the data room calls a picture, and the error for one that cannot be used. No Node imports: crops are cut from it
 * in worker threads and may be cut from it in a browser. */
import { DataError } from '../errors.js';

/** A decoded picture: 8-bit sRGB, `data` is `[height, width, 3]` row by row. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** One picture that cannot be read or decoded. Loaders skip it, count it and name it; they do not stop for it. */
export class CorruptPicture extends DataError {
  /** The picture's name inside its source. */
  readonly picture: string;
  /** Why it cannot be used, as half a sentence. */
  readonly reason: string;

  constructor(picture: string, reason: string, options?: ErrorOptions) {
    super(`${picture}: ${reason}`, options);
    this.picture = picture;
    this.reason = reason;
  }
}

/** A picture that was left out, as it stands in the log. */
export interface BadPicture {
  readonly name: string;
  readonly reason: string;
}
