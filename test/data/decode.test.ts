import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import test from 'tape';
import { CorruptPicture, decodeRgb } from '../../src/data/decode.js';
import { formulaPicture, pngOf } from './archives.js';

const WIDTH = 40;
const HEIGHT = 30;
const picture = formulaPicture(WIDTH, HEIGHT);
const raw = () => sharp(picture.data, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } });

/** A PNG header that promises `side` × `side` pixels and holds none. */
async function enormousPng(side: number): Promise<Buffer> {
  const png = Buffer.from(await pngOf(4, 4));
  png.writeUInt32BE(side, 16);
  png.writeUInt32BE(side, 20);
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
  return png;
}

test('lossless formats decode to the pixels they were made of', async (t) => {
  for (const [format, bytes] of [
    ['png', await raw().png().toBuffer()],
    ['webp', await raw().webp({ lossless: true }).toBuffer()],
    ['tiff', await raw().tiff({ compression: 'lzw' }).toBuffer()],
  ] as const) {
    const { width, height, data } = await decodeRgb(bytes, format);
    t.deepEqual([width, height], [WIDTH, HEIGHT]);
    t.deepEqual(data, picture.data, format);
  }
  for (const bytes of [await raw().gif().toBuffer(), await raw().avif({ effort: 0 }).toBuffer()]) {
    t.equal((await decodeRgb(bytes, 'lossy')).data.length, picture.data.length);
  }
});

test('unusual but valid pictures become 8-bit RGB', async (t) => {
  const deep = Uint16Array.from(picture.data, (value) => value * 256 + 200);
  const sixteen = await sharp(deep, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
    .toColourspace('rgb16')
    .png()
    .toBuffer();
  t.equal((await sharp(sixteen).metadata()).depth, 'ushort');
  t.deepEqual((await decodeRgb(sixteen, '16 bit')).data, picture.data, 'a 16-bit PNG keeps its upper bytes');

  const grey = await raw().greyscale().png().toBuffer();
  const greyPixels = (await decodeRgb(grey, 'grey')).data;
  t.equal(greyPixels.length, picture.data.length);
  t.ok(
    greyPixels.every((value, i) => value === greyPixels[i - (i % 3)]),
    'grey: three equal channels',
  );

  const alpha = Uint8Array.from({ length: WIDTH * HEIGHT * 4 }, (_, i) =>
    i % 4 === 3 ? (i * 7) & 255 : picture.data[(i >> 2) * 3 + (i % 4)],
  );
  const transparent = await sharp(alpha, { raw: { width: WIDTH, height: HEIGHT, channels: 4 } })
    .png()
    .toBuffer();
  t.deepEqual((await decodeRgb(transparent, 'alpha')).data, picture.data, 'the alpha channel is dropped');

  const cmyk = await raw().toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer();
  t.equal((await sharp(cmyk).metadata()).space, 'cmyk');
  const uniform = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#c02020' } })
    .toColourspace('cmyk')
    .jpeg({ quality: 95 })
    .toBuffer();
  const [red, green, blue] = (await decodeRgb(uniform, 'cmyk')).data;
  t.ok(red > 130 && green < 100 && blue < 100, `CMYK red stays red: ${red} ${green} ${blue}`);

  const one = await decodeRgb(await pngOf(1, 1), 'one pixel');
  t.deepEqual([one.width, one.height, one.data.length], [1, 1, 3]);

  const turned = await raw().png().withMetadata({ orientation: 6 }).toBuffer();
  const unturned = await decodeRgb(turned, 'turned');
  t.deepEqual([unturned.width, unturned.height], [WIDTH, HEIGHT], 'the EXIF orientation is ignored');
});

test('corrupt pictures are refused with name and reason', async (t) => {
  const jpeg = await raw().jpeg().toBuffer();
  const png = await raw().png().toBuffer();
  const damaged = Buffer.from(png);
  damaged[png.length >> 1] ^= 0xff;
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty.jpg', new Uint8Array(0), /empty/],
    ['text.jpg', Buffer.from('this is a text file\n'.repeat(50)), /not a picture/],
    ['short.jpg', jpeg.subarray(0, jpeg.length >> 1), /truncated/],
    ['header.jpg', jpeg.subarray(0, 30), /./],
    ['short.png', png.subarray(0, png.length >> 1), /cannot be decoded|truncated/],
    ['damaged.png', damaged, /cannot be decoded/],
    ['short.webp', (await raw().webp().toBuffer()).subarray(0, 200), /./],
    ['short.gif', (await raw().gif().toBuffer()).subarray(0, 300), /./],
    ['huge.png', await enormousPng(60000), /100 megapixels/],
    ['absurd.png', await enormousPng(0x7fffffff), /./],
  ];
  for (const [name, bytes, reason] of cases) {
    const error = await decodeRgb(bytes, name).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof CorruptPicture)) {
      t.fail(`${name} was not refused as corrupt: ${error}`);
      continue;
    }
    t.match(error.reason, reason, `${name}: ${error.reason}`);
    t.equal(error.picture, name);
    t.notOk(error.message.includes('\n'), 'one line');
  }
});
