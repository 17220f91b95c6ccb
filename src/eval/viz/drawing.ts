/** Pictures on a canvas: tiles with captions in lines, SVG over them, written as PNG (sharp). */

import sharp from 'sharp';
import type { RgbImage } from '../../data/picture.js';

/** A PNG that is done. */
export interface Drawing {
  readonly png: Buffer;
  readonly width: number;
  readonly height: number;
}

export interface Placed {
  readonly image: RgbImage;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export const PAPER = '#14171b';
export const INK = '#e8ebef';
export const SOFT = '#9aa4b1';
export const RIGHT = '#4cc38a';
export const WRONG = '#f0685a';

const FONT = 'font-family="DejaVu Sans, Verdana, Arial, sans-serif"';

/** Width of a character relative to the size of its font, on the wide side. */
const CHARACTER = 0.62;

export function escapeXml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  // Control characters have no place in XML.
  return Array.from(text, (character) => (character < ' ' ? ' ' : (entities[character] ?? character))).join('');
}

/** SVG text with its baseline at y, cut with an ellipsis where it is wider than `widest` pixels. */
export function svgText(
  text: string,
  x: number,
  y: number,
  { size = 12, fill = SOFT, widest = Number.POSITIVE_INFINITY, weight = 'normal', anchor = 'start' } = {},
): string {
  const characters = Math.max(Math.floor(widest / (CHARACTER * size)), 1);
  const shown = text.length > characters ? `${text.slice(0, Math.max(characters - 1, 0))}…` : text;
  return `<text x="${x}" y="${y}" ${FONT} font-size="${size}" font-weight="${weight}" fill="${fill}" text-anchor="${anchor}">${escapeXml(shown)}</text>`;
}

/** Resampled to whole pixels. Small pictures keep their pixels' edges when they are enlarged by far. */
async function resampled(image: RgbImage, width: number, height: number): Promise<Buffer> {
  const { width: from, height: down, data } = image;
  const picture = sharp(data, { raw: { width: from, height: down, channels: 3 } });
  if (from === width && down === height) return picture.raw().toBuffer();
  return picture.resize(width, height, { fit: 'fill', kernel: 'cubic' }).raw().toBuffer();
}

/** Pictures at their places, SVG elements over them, and others under them. */
export async function draw(
  width: number,
  height: number,
  pictures: readonly Placed[],
  svg = '',
  under = '',
): Promise<Drawing> {
  const tiles = await Promise.all(
    pictures.map(async ({ image, x, y, width: across, height: down }) => ({
      input: await resampled(image, across, down),
      raw: { width: across, height: down, channels: 3 as const },
      left: x,
      top: y,
    })),
  );
  const layer = (elements: string) => ({
    input: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${elements}</svg>`),
    left: 0,
    top: 0,
  });
  const png = await sharp({ create: { width, height, channels: 3, background: PAPER } })
    .composite([layer(under), ...tiles, layer(svg)])
    .png({ compressionLevel: 9 })
    .toBuffer();
  return { png, width, height };
}

/** One picture of a sheet. */
export interface Tile {
  readonly image: RgbImage;
  /** Colour of a frame around it. */
  readonly frame?: string;
  /** Under it. */
  readonly caption?: string;
}

/** Tiles that stay side by side, such as a picture and what was made of it. */
export interface TileGroup {
  readonly tiles: readonly Tile[];
  /** Under the group. */
  readonly caption?: string;
}

export interface SheetOptions {
  readonly title: string;
  readonly subtitle?: string;
  /** Pixels of a tile. */
  readonly tileHeight?: number;
  /** Pixels that lines of groups may take; a wider group has a line of its own. */
  readonly lineWidth?: number;
}

const MARGIN = 24;
const HEADER = 64;
const CAPTION = 20;
const GAP = { tiles: 4, groups: 20 };

/** Groups in lines, in their order. */
export async function drawSheet(
  groups: readonly TileGroup[],
  { title, subtitle = '', tileHeight = 180, lineWidth = 1400 }: SheetOptions,
): Promise<Drawing> {
  const placed: Placed[] = [];
  const svg: string[] = [];
  const captions = groups.some(({ caption, tiles }) => caption !== undefined || tiles.some((tile) => tile.caption));
  const lineHeight = tileHeight + (captions ? CAPTION : 0) + GAP.groups;
  let [x, y, right] = [MARGIN, MARGIN + HEADER, 0];
  for (const { tiles, caption } of groups) {
    const widths = tiles.map(({ image }) => Math.max(Math.round((tileHeight * image.width) / image.height), 1));
    const groupWidth = widths.reduce((sum, tileWidth) => sum + tileWidth, GAP.tiles * (tiles.length - 1));
    if (x > MARGIN && x + groupWidth > MARGIN + lineWidth) {
      x = MARGIN;
      y += lineHeight;
    }
    const under = y + tileHeight + 15;
    if (caption !== undefined) svg.push(svgText(caption, x, under, { widest: groupWidth }));
    tiles.forEach((tile, i) => {
      const width = widths[i];
      placed.push({ image: tile.image, x, y, width, height: tileHeight });
      if (tile.frame) {
        svg.push(
          `<rect x="${x + 2}" y="${y + 2}" width="${width - 4}" height="${tileHeight - 4}" fill="none" stroke="${tile.frame}" stroke-width="4"/>`,
        );
      }
      if (tile.caption) svg.push(svgText(tile.caption, x + 1, under, { size: 11, widest: width }));
      x += width + GAP.tiles;
    });
    x += GAP.groups - GAP.tiles;
    right = Math.max(right, x - GAP.groups);
  }
  const width = Math.max(right, 320) + MARGIN;
  const widest = width - 2 * MARGIN;
  svg.push(svgText(title, MARGIN, MARGIN + 20, { size: 20, fill: INK, weight: 'bold', widest }));
  svg.push(svgText(subtitle, MARGIN, MARGIN + 42, { size: 13, widest }));
  return draw(width, y + lineHeight - GAP.groups + MARGIN, placed, svg.join(''));
}

/** Dark to light through purple and orange, at equal steps of v from 0 to 1. */
const HEAT = [
  [10, 8, 30],
  [70, 18, 110],
  [150, 38, 110],
  [220, 75, 60],
  [250, 155, 30],
  [255, 245, 170],
] as const;

/** The colour of a value from 0 to 1; what lies outside counts as the end. */
export function heatColour(value: number): [number, number, number] {
  const at = Math.min(Math.max(value, 0), 1) * (HEAT.length - 1);
  const below = Math.min(Math.floor(at), HEAT.length - 2);
  const [low, high] = [HEAT[below], HEAT[below + 1]];
  return [0, 1, 2].map((c) => Math.round(low[c] + (at - below) * (high[c] - low[c]))) as [number, number, number];
}

/**
 * Heat over a picture: the warmer a place, the less of the picture shows through; cold places are the picture, darkened.
 * @param values one a pixel, from 0 to 1
 */
export function heatOverlay({ width, height, data }: RgbImage, values: ArrayLike<number>): RgbImage {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < width * height; i++) {
    const colour = heatColour(values[i]);
    const opaque = 0.35 + 0.5 * Math.min(Math.max(values[i], 0), 1);
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.round((1 - opaque) * data[3 * i + c] + opaque * colour[c]);
  }
  return { width, height, data: out };
}

/** Distinct colours of classes: those of ten common ones, then hues by the golden angle. */
const CLASSES = [
  '#6ea8ff',
  '#f0985a',
  '#4cc38a',
  '#c98bea',
  '#f2d14e',
  '#ef6f8a',
  '#5fd3d6',
  '#b9a18a',
  '#9fe06a',
  '#c5ccd6',
];

export function classColour(label: number): string {
  if (label < CLASSES.length) return CLASSES[label];
  return `hsl(${((label * 137.508) % 360).toFixed(1)}, ${55 + ((label * 7) % 4) * 10}%, ${55 + ((label * 3) % 3) * 9}%)`;
}
