import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromFile, writeArrayBuffer } from 'geotiff';
import sharp from 'sharp';
import test from 'tape';
import { DataError } from '../../src/errors.js';
import { type GeoReference, GeoTiff, HeightRasterWriter } from '../../src/io/geotiff.js';
import { withFolder } from '../data/archives.js';

const UTM: GeoReference = {
  pixelScale: [0.5, 0.5, 0],
  tiepoints: [0, 0, 0, 400000, 5000000, 0],
  keyDirectory: [1, 1, 0, 3, 1024, 0, 1, 1, 1026, 34737, 12, 0, 3072, 0, 1, 32632],
  asciiParameters: 'UTM zone 32|',
};

/** Values with a word for NaN, which is not equal to itself. */
function plain(values: Float32Array): (number | string)[] {
  return Array.from(values, (value) => (Number.isNaN(value) ? 'none' : value));
}

test('GeoTIFF: heights written row by row come back with georeference and no-data', async (t) => {
  await withFolder(async (folder) => {
    const [width, height] = [301, 140];
    const values = Float32Array.from({ length: width * height }, (_, i) => (i % 17 === 3 ? Number.NaN : i / 8 - 20));
    const path = join(folder, 'heights.tif');
    const writer = await HeightRasterWriter.create(path, { width, height, noData: -9999, reference: UTM });
    for (let row = 0; row < height; row += 7) {
      await writer.writeRows(values.subarray(row * width, (row + 7) * width));
    }
    await writer.close();

    const file = await GeoTiff.open(path);
    t.deepEqual([file.width, file.height, file.bands, file.noData], [width, height, 1, -9999]);
    t.deepEqual(plain(await file.band()), plain(values), 'values; NaN where the file says no data');
    const part = await file.band(0, { x: 290, y: 100, width: 11, height: 40 });
    t.deepEqual(plain(part.subarray(0, 11)), plain(values.subarray(100 * width + 290, 101 * width)), 'a window');
    for (const key of ['pixelScale', 'tiepoints', 'keyDirectory', 'asciiParameters'] as const) {
      t.deepEqual(file.reference?.[key], UTM[key], key);
    }
    await file.close();

    const library = await (await fromFile(path)).getImage();
    t.deepEqual(library.getOrigin(), [400000, 5000000, 0], 'the library sees the origin');
    t.deepEqual(library.getResolution(), [0.5, -0.5, 0], 'and the size of a pixel');
    t.equal(library.getGDALNoData(), -9999);
    t.equal(library.getGeoKeys()?.ProjectedCSTypeGeoKey, 32632);
    const decoded = await sharp(path).metadata();
    t.deepEqual([decoded.width, decoded.height, decoded.depth], [width, height, 'float'], 'libtiff reads it too');
  });
});

test('GeoTIFF: a transformation in place of scale and tie point; what other programs wrote', async (t) => {
  await withFolder(async (folder) => {
    const path = join(folder, 'turned.tif');
    const transformation = [0.5, 0.1, 0, 1000.25, 0.1, -0.5, 0, 2000.75, 0, 0, 0, 0, 0, 0, 0, 1];
    const writer = await HeightRasterWriter.create(path, {
      width: 2,
      height: 2,
      noData: Number.NaN,
      reference: { transformation, keyDirectory: [1, 1, 0, 1, 1025, 34736, 1, 0], doubleParameters: [6378137.5] },
    });
    await writer.writeRows(Float32Array.of(1, Number.NaN, 3, 4));
    await writer.close();
    const file = await GeoTiff.open(path);
    t.deepEqual(file.reference?.transformation, transformation);
    t.deepEqual(file.reference?.doubleParameters, [6378137.5]);
    t.deepEqual(plain(await file.band()), [1, 'none', 3, 4], 'NaN as the no-data value');
    await file.close();

    const foreign = join(folder, 'foreign.tif');
    const four = Uint8Array.from({ length: 4 * 6 }, (_, i) => 10 * i);
    writeFileSync(
      foreign,
      Buffer.from(
        await writeArrayBuffer(four, {
          width: 3,
          height: 2,
          SamplesPerPixel: 4,
          BitsPerSample: [8, 8, 8, 8],
          PhotometricInterpretation: 2,
          ModelPixelScale: [2, 2, 0],
          ModelTiepoint: [0, 0, 0, 5, 6, 0],
        }),
      ),
    );
    const bands = await GeoTiff.open(foreign);
    t.equal(bands.bands, 4);
    t.deepEqual(
      await bands.rgb(),
      four.filter((_, i) => i % 4 < 3),
      'red, green, blue of four bands',
    );
    t.deepEqual(await bands.band(3), Float32Array.of(30, 70, 110, 150, 190, 230), 'the fourth');
    await bands.close();
  });
});

test('GeoTIFF: colours of grey, of LZW compression, and what is refused', async (t) => {
  await withFolder(async (folder) => {
    const grey = Uint8Array.from({ length: 20 }, (_, i) => 12 * i);
    const raw = { raw: { width: 5, height: 4, channels: 1 as const } };
    const compressed = join(folder, 'grey.tif');
    writeFileSync(compressed, await sharp(grey, raw).toColourspace('b-w').tiff({ compression: 'lzw' }).toBuffer());
    const file = await GeoTiff.open(compressed);
    t.deepEqual(
      [...(await file.rgb({ x: 1, y: 2, width: 2, height: 1 }))],
      [11, 11, 11, 12, 12, 12].map((value) => 12 * value),
      'grey in all three channels',
    );
    t.equal(file.reference, undefined, 'no georeference');
    await file.close();

    const refused = async (body: () => Promise<unknown>, pattern: RegExp): Promise<void> => {
      try {
        await body();
        t.fail('taken');
      } catch (error) {
        const { message } = error as Error;
        t.ok(error instanceof DataError && pattern.test(message) && !message.includes('\n'), message);
      }
    };
    await refused(() => GeoTiff.open(join(folder, 'nowhere.tif')), /nowhere\.tif is no readable TIFF/);
    const text = join(folder, 'text.tif');
    writeFileSync(text, 'not a picture at all');
    await refused(() => GeoTiff.open(text), /is no readable TIFF/);
    const wide = join(folder, 'wide.tif');
    writeFileSync(
      wide,
      Buffer.from(
        await writeArrayBuffer(
          Uint16Array.from({ length: 20 }, (_, i) => 1000 * i),
          { width: 5, height: 4, BitsPerSample: [16] },
        ),
      ),
    );
    const sixteen = await GeoTiff.open(wide);
    await refused(() => sixteen.rgb(), /bands of 16 bits/);
    await sixteen.close();
    const cut = join(folder, 'cut.tif');
    writeFileSync(cut, readFileSync(wide).subarray(0, 30));
    await refused(async () => {
      const broken = await GeoTiff.open(cut);
      await broken.band();
    }, /cut\.tif/);
    const huge = { width: 40000, height: 40000, noData: 0 };
    await refused(() => HeightRasterWriter.create(join(folder, 'huge.tif'), huge), /4 GiB/);
    const short = await HeightRasterWriter.create(join(folder, 'short.tif'), { width: 2, height: 2, noData: 0 });
    await refused(() => short.writeRows(new Float32Array(3)), /not the next rows/);
    await refused(() => short.close(), /0 of its 2 rows/);
  });
});
