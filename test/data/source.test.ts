import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import test from 'tape';
import { decodeRgb } from '../../src/data/decode.js';
import { parseCsv } from '../../src/data/labels.js';
import { CorruptPicture } from '../../src/data/picture.js';
import { type ImageSource, openSource } from '../../src/data/source.js';
import { DataError } from '../../src/errors.js';
import { type Entry, tarArchive, tarEntry, withFolder, writeFolder, zipArchive } from './archives.js';

const shared = fileURLToPath(new URL('../../../shared/data', import.meta.url));

async function withSource(path: string, body: (source: ImageSource) => Promise<void> | void): Promise<void> {
  const source = await openSource(path);
  try {
    await body(source);
  } finally {
    await source.close();
  }
}

const names = (source: ImageSource) => Array.from({ length: source.length }, (_, i) => source.name(i));
const labels = (source: ImageSource) => Array.from({ length: source.length }, (_, i) => source.label(i));
const texts = async (source: ImageSource) =>
  Promise.all(names(source).map(async (_, i) => Buffer.from(await source.read(i)).toString()));

async function refusal(path: string): Promise<string> {
  const error = await openSource(path).then(
    (source) => source.close(),
    (thrown: unknown) => thrown,
  );
  return error instanceof DataError ? error.message : `not a DataError: ${error}`;
}

/** Class folders with noise around them; contents stand for pictures. */
const CLASS_ENTRIES: Entry[] = [
  ['dog/b.JPG', 'dog b'],
  ['cat/a.png', 'cat a'],
  ['cat/deep/c.webp', 'cat c'],
  ['cat/notes.txt', 'no picture'],
  ['cat/.hidden.png', 'hidden'],
  ['__MACOSX/cat/a.png', 'resource fork'],
  ['dog/long.'.padEnd(80, 'x') + '.jpeg', 'x'.repeat(5000)],
];

test('a folder, a tar and a zip with the same inside give the same pictures and labels', async (t) => {
  await withFolder(async (folder) => {
    writeFolder(join(folder, 'set'), CLASS_ENTRIES);
    writeFileSync(join(folder, 'set.tar'), tarArchive(CLASS_ENTRIES));
    writeFileSync(join(folder, 'stored.zip'), zipArchive(CLASS_ENTRIES, false));
    writeFileSync(join(folder, 'deflated.zip'), zipArchive(CLASS_ENTRIES, true, 'a comment with PK\x05\x06 in it'));
    for (const path of ['set', 'set.tar', 'stored.zip', 'deflated.zip']) {
      await withSource(join(folder, path), async (source) => {
        const seen = names(source).map((name, i) => [name, source.label(i)] as const);
        const content = await texts(source);
        const byName = new Map(seen.map(([name, label], i) => [name, [label, content[i].slice(0, 6)]]));
        t.equal(source.length, 4, `${path}: four pictures`);
        t.deepEqual(byName.get('cat/a.png'), [0, 'cat a']);
        t.deepEqual(byName.get('cat/deep/c.webp'), [0, 'cat c']);
        t.deepEqual(byName.get('dog/b.JPG'), [1, 'dog b']);
        t.deepEqual(byName.get(CLASS_ENTRIES[6][0]), [1, 'xxxxxx']);
        t.deepEqual(source.classNames, ['cat', 'dog']);
      });
    }
    await withSource(join(folder, 'set'), (source) => {
      t.deepEqual(names(source), [...names(source)].sort(), 'a folder is sorted');
    });
  });
});

test('labels from the names of folders', async (t) => {
  const cases: [string, string[], (number | undefined)[], string[] | undefined][] = [
    ['numbered', ['7_owl/a.png', '2_fox/b.png'], [7, 2], ['0', '1', 'fox', '3', '4', '5', '6', 'owl']],
    ['common leading folders', ['x/train/b/1.png', 'x/train/a/2.png'], [1, 0], ['a', 'b']],
    ['splits', ['train/b/1.png', 'val/a/2.png', 'val/b/3.png'], [1, 0, 1], ['a', 'b']],
    ['one numbered class', ['val/3_hen/1.png', 'val/3_hen/2.png'], [3, 3], ['0', '1', '2', 'hen']],
    ['pictures in the root', ['a.png', 'cat/b.png'], [undefined, undefined], undefined],
    ['all in one folder', ['photos/a.png', 'photos/b.png'], [undefined, undefined], undefined],
  ];
  await withFolder(async (folder) => {
    for (const [what, paths, want, wantNames] of cases) {
      const path = join(folder, 'case.zip');
      writeFileSync(
        path,
        zipArchive(
          paths.map((name) => [name, 'x']),
          false,
        ),
      );
      await withSource(path, (source) => {
        t.deepEqual(labels(source), want, what);
        t.deepEqual(source.classNames, wantNames);
      });
    }
  });
});

test('webdataset members: .cls, targets beside pictures, the csv beside the archive', async (t) => {
  await withFolder(async (folder) => {
    const tar = join(folder, 'part.tar');
    writeFileSync(
      tar,
      tarArchive([
        ['k-1.jpg', 'one'],
        ['k-1.cls', '4\n'],
        ['k-1.seg.png', 'target'],
        ['k-2.jpg', 'two'],
        ['k-2.cls', '0'],
        ['lone.v2.jpg', 'three'],
      ]),
    );
    await withSource(tar, async (source) => {
      t.deepEqual(names(source), ['k-1.jpg', 'k-2.jpg', 'lone.v2.jpg'], 'a target beside its picture is left out');
      t.deepEqual(labels(source), [4, 0, undefined]);
      t.deepEqual(await texts(source), ['one', 'two', 'three']);
    });
    writeFileSync(join(folder, 'part.csv'), 'key,label,class_name\nk-1,1,"a, b"\nk-2,0,zero\n');
    await withSource(tar, (source) => t.deepEqual(labels(source), [4, 0, undefined], '.cls comes first'));
    writeFileSync(
      tar,
      tarArchive([
        ['k-1.jpg', 'one'],
        ['k-2.jpg', 'two'],
        ['k-3.jpg', 'three'],
      ]),
    );
    await withSource(tar, (source) => {
      t.deepEqual(labels(source), [1, 0, undefined], 'then the csv');
      t.deepEqual(source.classNames, ['zero', 'a, b']);
    });
    writeFileSync(join(folder, 'part.csv'), 'key,label\nk-1,one\n');
    t.match(await refusal(tar), /part\.csv, row 2: "one" is not a label/);
    writeFileSync(join(folder, 'part.csv'), 'key,origin\nk-1,here\n');
    await withSource(tar, (source) =>
      t.deepEqual(labels(source), [undefined, undefined, undefined], 'no label column'),
    );
  });
  t.deepEqual(parseCsv('\ufeffa,"b ""c"", d"\r\n\r\n"x\ny",\n'), [
    ['a', 'b "c", d'],
    ['x\ny', ''],
  ]);
});

test('tar: long names by pax, GNU and prefix, links and sizes in binary', async (t) => {
  const long = `${'folder/'.repeat(20)}ünïcode.png`;
  const record = (text: string) => {
    // The length counts its own digits.
    const body = ` path=${text}\n`;
    const size = Buffer.byteLength(body);
    return `${size + String(size + 3).length}${body}`;
  };
  const prefixed = Buffer.from(tarEntry('tail.png', 'prefix'));
  prefixed.write('some/prefix', 345);
  const binary = Buffer.from(tarEntry('binary.png', 'binary size'));
  binary.fill(0, 124, 136);
  binary[124] = 0x80;
  binary[135] = 11;
  for (const header of [prefixed, binary]) {
    header.write('        ', 148);
    const sum = header.subarray(0, 512).reduce((a, b) => a + b, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  }
  await withFolder(async (folder) => {
    const path = join(folder, 'long.tar');
    const gnu = `gnu/${'n'.repeat(150)}.png`;
    writeFileSync(
      path,
      Buffer.concat([
        tarEntry('pax_global', '30 comment=nothing to see here\n', 'g'),
        tarEntry('PaxHeader', record(long), 'x'),
        tarEntry('short.png', 'pax'),
        tarEntry('././@LongLink', `${gnu}\0`, 'L'),
        tarEntry('gnu/nnn', 'gnu'),
        prefixed,
        binary,
        tarEntry('link.png', '', '2'),
        tarEntry('./plain.png', 'plain'),
      ]),
    );
    await withSource(path, async (source) => {
      t.deepEqual(names(source), [long, gnu, 'some/prefix/tail.png', 'binary.png', 'plain.png']);
      t.deepEqual(await texts(source), ['pax', 'gnu', 'prefix', 'binary size', 'plain']);
    });
  });
});

test('what cannot be used is refused in one line', async (t) => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const entries: Entry[] = [
      ['a.png', 'x'.repeat(3000)],
      ['b.png', 'y'.repeat(3000)],
    ];
    mkdirSync(at('empty'));
    writeFolder(at('texts'), [
      ['a.txt', ''],
      ['b.txt', ''],
      ['c.bmp', ''],
    ]);
    const tar = tarArchive(entries);
    const zip = zipArchive(entries, true);
    const flippedTar = Buffer.from(tar);
    flippedTar[512 + 3072 + 5] ^= 1;
    const method = Buffer.from(zip);
    method.writeUInt16LE(93, method.indexOf('PK\x01\x02') + 10);
    const encrypted = Buffer.from(zip);
    encrypted.writeUInt16LE(1, encrypted.indexOf('PK\x01\x02') + 8);
    const files: [string, Uint8Array | string, RegExp][] = [
      ['cut.tar', tar.subarray(0, 2000), /cut\.tar is truncated: it ends inside "a\.png"/],
      ['header.tar', tar.subarray(0, 512 + 3072 + 100), /truncated: it ends inside the header/],
      ['flipped.tar', flippedTar, /damaged: there is no valid tar header at byte 3584/],
      ['text.tar', 'hello '.repeat(200), /not an uncompressed tar/],
      ['zeros.tar', Buffer.alloc(1024), /no pictures .* it is empty/],
      ['nothing.tar', '', /empty \(0 bytes\)/],
      ['packed.tar', gzipSync(tar), /gzip/],
      ['cut.zip', zip.subarray(0, zip.length - 30), /not a whole zip/],
      ['text.zip', 'hello', /not a whole zip/],
      ['method.zip', method, /packed by method 93/],
      ['encrypted.zip', encrypted, /encrypted/],
      ['photo.jpg', 'hello', /single picture/],
    ];
    for (const [name, content] of files) writeFileSync(at(name), content);
    const cases: [string, RegExp][] = [
      ['missing', /missing cannot be opened: no such file or folder/],
      ['empty', /no pictures .* it is empty/],
      ['texts', /no pictures .* found 2 \.txt, 1 \.bmp; pictures end in \.jpg/],
      ...files.map(([name, , pattern]) => [name, pattern] as [string, RegExp]),
    ];
    for (const [name, pattern] of cases) {
      const message = await refusal(at(name));
      t.match(message, pattern, message.replaceAll(folder, ''));
      t.notOk(message.includes('\n'));
    }
  });
});

test('one damaged zip member does not spoil the others', async (t) => {
  await withFolder(async (folder) => {
    for (const deflate of [true, false]) {
      const path = join(folder, 'bad.zip');
      const zip = zipArchive(
        [
          ['a.png', 'abcdefgh'.repeat(40)],
          ['b.png', 'fine'],
        ],
        deflate,
      );
      zip[40] ^= 0xff;
      writeFileSync(path, zip);
      await withSource(path, async (source) => {
        const error = await source.read(0).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        t.ok(error instanceof CorruptPicture && error.picture === 'a.png', String(error));
        t.equal(Buffer.from(await source.read(1)).toString(), 'fine');
      });
    }
  });
});

test('links in folders are followed once', async (t) => {
  await withFolder(async (folder) => {
    writeFolder(folder, [
      ['set/a.png', 'a'],
      ['elsewhere/b.png', 'b'],
    ]);
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'set', 'linked'));
    symlinkSync(join(folder, 'set'), join(folder, 'set', 'loop'));
    symlinkSync(join(folder, 'nowhere'), join(folder, 'set', 'dangling.png'));
    await withSource(join(folder, 'set'), (source) => t.deepEqual(names(source), ['a.png', 'linked/b.png']));
  });
});

test('real sets', async (t) => {
  if (!existsSync(shared)) {
    t.comment('no shared data beside the project: skipped');
    return;
  }
  // Set, pictures, classes, a picture's index, its label and class name.
  const sets: [string, number, number | undefined, number, number | undefined, string | undefined][] = [
    ['cifar10/train.zip', 6000, 10, 5999, 9, 'truck'],
    ['tinyimagenet/val.zip', 1000, 200, 0, 0, 'goldfish, Carassius auratus'],
    ['caltech101/train.tar', 1475, 99, 0, 0, 'accordion'],
    ['grocery/val.tar', 301, 81, 0, 0, 'Golden-Delicious'],
    ['pool/pool.tar', 2712, undefined, 2711, undefined, undefined],
    ['camvid/val.tar', 51, undefined, 50, undefined, undefined],
    ['demo', 38, undefined, 0, undefined, undefined],
  ];
  for (const [path, length, classes, index, label, className] of sets) {
    await withSource(join(shared, path), async (source) => {
      t.equal(source.length, length, path);
      t.equal(source.classNames?.length, classes);
      t.equal(source.label(index), label);
      t.equal(label === undefined ? undefined : source.classNames?.[label], className);
      const { width, height, data } = await decodeRgb(await source.read(index), source.name(index));
      t.equal(data.length, width * height * 3);
    });
  }
});
