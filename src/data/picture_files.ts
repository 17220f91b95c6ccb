/** Single picture files as a source, for verbs that look at one picture or at two. */

import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { DataError } from '../errors.js';
import { openDataset } from './mnist_source.js';
import { CorruptPicture } from './picture.js';
import { type ImageSource, isPictureName } from './source.js';

class PictureFiles implements ImageSource {
  readonly path: string;

  constructor(private readonly paths: readonly string[]) {
    this.path = paths.join(', ');
  }

  get length(): number {
    return this.paths.length;
  }

  name(index: number): string {
    return basename(this.paths[index]);
  }

  label(): undefined {
    return undefined;
  }

  async read(index: number): Promise<Uint8Array> {
    try {
      return await readFile(this.paths[index]);
    } catch (cause) {
      throw new CorruptPicture(this.paths[index], 'cannot be read', { cause });
    }
  }

  async close(): Promise<void> {}
}

/**
 * The files in this order, without labels.
 * @throws DataError for one that is not there
 */
export async function openPictureFiles(paths: readonly string[]): Promise<ImageSource> {
  for (const path of paths) {
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) throw new DataError(`${path} is no file: give one picture (.jpg, .png, ...)`);
  }
  return new PictureFiles(paths);
}

/**
 * A folder, an archive, `mnist:split=TRAIN`, or one picture.
 * @throws DataError if there is nothing there, it cannot be read, or it holds no picture
 */
export async function openPictures(path: string): Promise<ImageSource> {
  const single = isPictureName(path) && (await stat(path).catch(() => undefined))?.isFile();
  return single ? new PictureFiles([path]) : openDataset(path);
}
