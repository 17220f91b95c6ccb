/** `webdino predict`: maps of pictures by a head that `webdino eval segment`, `depth` or `canopy` has trained. */

import { mkdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import sharp from 'sharp';
import { decodeRgb } from '../data/decode.js';
import { CorruptPicture, type RgbImage } from '../data/picture.js';
import { openContainer } from '../data/source.js';
import { DataError, UsageError } from '../errors.js';
import { canopyMode } from '../eval/canopy.js';
import { TARGET_FILE } from '../eval/data_sets.js';
import { depthMode } from '../eval/depth.js';
import { labelPicture, metrePicture, overlay } from '../eval/map_pictures.js';
import { networkModel } from '../eval/network_model.js';
import { PIXEL_TASKS, PixelHead, type PixelHeadConfig, readHeadConfig } from '../eval/pixel_head.js';
import {
  PixelPredictor,
  type PredictionMode,
  predictLabels,
  predictMetres,
  resizeMap,
} from '../eval/pixel_prediction.js';
import { predictRaster } from '../eval/raster_prediction.js';
import type { Picture } from '../eval/result.js';
import { segmentMode } from '../eval/segment.js';
import { writeFileAtomic } from '../io/atomic.js';
import { GeoTiff } from '../io/geotiff.js';
import { encodeNpy } from '../io/npy.js';
import { openGpu } from '../node.js';
import { Progress } from '../io/progress.js';
import { describeVit, findModel, type ModelArguments, openModel, positiveInteger, required } from './model.js';
import { oneOf } from './pixel_options.js';

export interface PredictArguments extends ModelArguments {
  readonly head?: string;
  /** Folder, archive, picture or GeoTIFF. */
  readonly data?: string;
  readonly out?: string;
  /** `png` (default) or `npy`. */
  readonly format?: string;
  readonly shorterSide?: string | number;
}

const PICTURE_FILE = /\.(jpe?g|png|webp|avif|tiff?|gif)$/i;
const TIFF_FILE = /\.tiff?$/i;

/** Largest map that is also drawn over its picture, in pixels. */
const MOST_OVERLAY_PIXELS = 16e6;

/** Values of a metre in 16-bit PNGs: millimetres of depth, centimetres of height, as in data sets. */
const PNG_UNITS = { depth: 1000, canopy: 100 } as const;

/**
 * Writes, for each picture NAME, OUT/NAME.overlay.png and its values in OUT/NAME.png or .npy; a map of a GeoTIFF lies in
 * OUT/NAME.tif, with its georeference.
 * @throws UsageError, DataError, NoGpuError with one line that says what to do
 */
export async function predict(taskName: string, options: PredictArguments): Promise<void> {
  const task = oneOf('the task', taskName, PIXEL_TASKS)!;
  const headFile = required('--head', options.head);
  const data = required('--data', options.data);
  const out = required('--out', options.out);
  const format = oneOf('--format', options.format, ['png', 'npy']) ?? 'png';
  const shorterSide = positiveInteger('--shorter-side', options.shorterSide);
  const config = await readHeadConfig(headFile);
  if (config.task !== task)
    throw new UsageError(`${headFile} is a head for ${config.task}: webdino predict ${config.task}`);
  const pictures = await findPictures(data);
  // What a head was trained on says how large pictures are; the usual crop of whole-picture features does not matter.
  const settings = await findModel({ ...options, size: config.model.patchSize, resize: config.model.patchSize });
  try {
    const gpu = await openGpu();
    try {
      const { vit, weights } = await openModel(gpu, settings);
      const model = networkModel(gpu, { name: settings.weightsPath, vit, weights, dtype: settings.dtype });
      const head = await PixelHead.load(gpu, headFile);
      const batch = settings.batch ?? (gpu.capabilities.software ? 4 : 16);
      const predictor = new PixelPredictor(gpu, model, head, batch);
      const progress = new Progress({ totalSteps: pictures.members.length });
      try {
        await head.assertModel(model);
        progress.note(`${settings.weightsPath} (${describeVit(vit)}) on ${gpu.capabilities.description}`);
        const mode = modeOf(config, shorterSide);
        if (task === 'segment') {
          await writeFileAtomic(join(out, 'classes.json'), `${JSON.stringify(config.classNames, null, 2)}\n`);
        }
        let written = 0;
        for (const [i, path] of pictures.members.entries()) {
          try {
            await predictOne(predictor, head, pictures, path, { out, format, mode, progress });
            written++;
          } catch (error) {
            if (!(error instanceof CorruptPicture)) throw error;
            progress.note(`left out: ${error.message}`);
          }
          if (!TIFF_FILE.test(path)) progress.update({ step: i + 1 });
        }
        progress.done();
        if (written === 0) throw new DataError(`${data}: none of ${pictures.members.length} pictures can be read`);
        console.log(`${out}: maps of ${written} pictures`);
      } finally {
        for (const owned of [predictor, head, model]) owned.dispose();
      }
    } finally {
      gpu.close();
    }
  } finally {
    await pictures.close();
  }
}

/** How pictures are gone through: as in the evaluation, without other scales. */
function modeOf(config: PixelHeadConfig, shorterSide: number | undefined): PredictionMode {
  const { task, protocol, crop, model } = config;
  const sizes = { crop, shorterSide: shorterSide ?? config.shorterSide ?? undefined };
  if (task === 'segment') return segmentMode(protocol === 'ms' ? 'ms' : 'linear', sizes, model.patchSize, [1]);
  return task === 'depth' ? depthMode(sizes, model.patchSize) : canopyMode(sizes, model.patchSize);
}

interface Pictures {
  /** Paths inside the source. */
  readonly members: readonly string[];
  read(path: string): Promise<Uint8Array>;
  /** Opens a TIFF without reading it whole. */
  tiff(path: string): Promise<GeoTiff>;
  close(): Promise<void>;
}

async function findPictures(data: string): Promise<Pictures> {
  const found = await stat(data).catch(() => undefined);
  if (found?.isFile() && PICTURE_FILE.test(data)) {
    return {
      members: [basename(data)],
      read: () => readFile(data),
      tiff: () => GeoTiff.open(data),
      close: async () => {},
    };
  }
  const { container, isFolder } = await openContainer(data);
  const byPath = new Map(
    container.members
      .filter(({ path }) => PICTURE_FILE.test(path) && !TARGET_FILE.test(path) && !/(^|\/)\./.test(path))
      .map((member) => [member.path, member]),
  );
  if (byPath.size === 0) {
    await container.close();
    throw new DataError(`no pictures in ${data}`);
  }
  return {
    members: [...byPath.keys()],
    read: (path) => container.read(byPath.get(path)!),
    tiff: async (path) =>
      isFolder ? GeoTiff.open(join(data, path)) : GeoTiff.of(await container.read(byPath.get(path)!), path),
    close: () => container.close(),
  };
}

interface Output {
  readonly out: string;
  readonly format: 'png' | 'npy';
  readonly mode: PredictionMode;
  readonly progress: Progress;
}

async function predictOne(
  predictor: PixelPredictor,
  head: PixelHead,
  pictures: Pictures,
  path: string,
  output: Output,
): Promise<void> {
  const base = join(output.out, path.replace(PICTURE_FILE, ''));
  if (!TIFF_FILE.test(path)) {
    await predictPicture(predictor, head, await decodeRgb(await pictures.read(path), path), base, output);
    return;
  }
  const file = await pictures.tiff(path);
  try {
    await mkdir(dirname(base), { recursive: true });
    const { progress, mode } = output;
    progress.begin(`rows of ${path}`, file.height);
    await predictRaster(predictor, head, file, mode, `${base}.tif`, (step) => progress.update({ step }));
    if (file.width * file.height > MOST_OVERLAY_PIXELS) {
      progress.note(`${path} is too large to be drawn over; its map is ${base}.tif`);
      return;
    }
    const image = { width: file.width, height: file.height, data: await file.rgb() };
    const map = await GeoTiff.open(`${base}.tif`);
    try {
      const values = await map.band();
      await writePng(`${base}.overlay.png`, overlay(image, mapPicture(head.config, values, image)));
    } finally {
      await map.close();
    }
  } finally {
    await file.close();
  }
}

async function predictPicture(
  predictor: PixelPredictor,
  head: PixelHead,
  image: RgbImage,
  base: string,
  { format, mode }: Output,
): Promise<void> {
  const { width, height } = image;
  const { task } = head.config;
  const shape = [height, width];
  if (task === 'segment') {
    const labels = await predictLabels(predictor, image, mode);
    if (format === 'npy') await writeFileAtomic(`${base}.npy`, encodeNpy({ shape, data: labels }));
    else
      await writeFileAtomic(`${base}.png`, await sharp(labels, rawGrey(image)).toColourspace('b-w').png().toBuffer());
    await writePng(`${base}.overlay.png`, overlay(image, labelPicture(labels, image)));
    return;
  }
  const { values } = resizeMap(await predictMetres(predictor, head, image, mode), width, height);
  if (format === 'npy') await writeFileAtomic(`${base}.npy`, encodeNpy({ shape, data: values }));
  else {
    const units = Uint16Array.from(values, (metres) => Math.min(Math.round(metres * PNG_UNITS[task]), 65534));
    await writeFileAtomic(`${base}.png`, await sharp(units, rawGrey(image)).toColourspace('grey16').png().toBuffer());
  }
  await writePng(`${base}.overlay.png`, overlay(image, mapPicture(head.config, values, image)));
}

function rawGrey({ width, height }: { readonly width: number; readonly height: number }) {
  return { raw: { width, height, channels: 1 as const } };
}

function mapPicture(
  { task }: PixelHeadConfig,
  values: Float32Array,
  size: { readonly width: number; readonly height: number },
): Picture {
  if (task === 'segment') {
    return labelPicture(
      Uint8Array.from(values, (label) => (Number.isNaN(label) ? 255 : label)),
      size,
    );
  }
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return metrePicture(values, size, low, high);
}

async function writePng(path: string, { width, height, data }: Picture): Promise<void> {
  await writeFileAtomic(
    path,
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
}
