/** The pages of `webdino viz`: one file each, pictures inside, nothing loaded from anywhere. */

import type { RgbImage } from '../data/picture.js';
import { classColour, escapeXml } from '../eval/viz/drawing.js';
import { dataUrl, tiled } from '../eval/viz/thumbnails.js';
import { htmlPage, pageHeader } from '../io/page.js';

export interface ShownNeighbour {
  readonly name: string;
  readonly className: string | undefined;
  /** Cosine. */
  readonly similarity: number;
  /** Whether it has the query's class; undefined where one has none. */
  readonly agrees: boolean | undefined;
  readonly picture: RgbImage;
}

export interface ShownQuery {
  readonly name: string;
  readonly className: string | undefined;
  readonly picture: RgbImage;
  readonly neighbours: readonly ShownNeighbour[];
}

/** A row a query: itself, then its neighbours. */
export async function neighboursPage(title: string, subtitle: string, queries: readonly ShownQuery[]): Promise<string> {
  const figure = async (
    kind: string,
    picture: RgbImage,
    { name, className }: { readonly name: string; readonly className: string | undefined },
    detail = '',
  ): Promise<string> => {
    const caption = [detail, className ?? ''].filter((part) => part !== '').join(' ');
    return (
      `<figure class="${kind}"><img src="${await dataUrl(picture)}" alt="${escapeXml(name)}" title="${escapeXml(name)}">` +
      `<figcaption>${escapeXml(caption) || '&nbsp;'}</figcaption></figure>`
    );
  };
  const rows = await Promise.all(
    queries.map(async (query) => {
      const found = await Promise.all(
        query.neighbours.map((neighbour) => {
          const kind = neighbour.agrees === undefined ? 'plain' : neighbour.agrees ? 'right' : 'wrong';
          return figure(kind, neighbour.picture, neighbour, neighbour.similarity.toFixed(2));
        }),
      );
      return `<div class="row">${await figure('query', query.picture, query)}${found.join('')}</div>`;
    }),
  );
  return htmlPage({ title, body: [pageHeader(title, subtitle, []), ...rows], style: NEIGHBOURS_STYLE });
}

const NEIGHBOURS_STYLE = `
.row { display: flex; gap: 6px; overflow-x: auto; padding: 10px 0; border-bottom: 1px solid var(--line); }
.row figure { margin: 0; flex: none; width: 112px; }
.row img { display: block; width: 112px; height: 112px; border: 3px solid transparent; border-radius: 6px; }
.row .query { margin-right: 12px; }
.row .query img { border-color: var(--ink); }
.row .right img { border-color: var(--series-3); }
.row .wrong img { border-color: var(--alarm); }
.row figcaption { font-size: 12px; color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
`;

export interface MapPoint {
  readonly x: number;
  readonly y: number;
  readonly name: string;
  readonly label: number | undefined;
  /** A square. */
  readonly thumbnail: RgbImage;
}

/** More classes than that are not listed beside the map: their colours repeat to the eye. */
const MOST_LISTED = 40;

/** A map to move in: drag, wheel, hover for the picture, click on a class to dim the others. */
export async function mapPage(
  title: string,
  subtitle: string,
  points: readonly MapPoint[],
  classNames: ReadonlyMap<number, string>,
): Promise<string> {
  const side = points[0].thumbnail.width;
  const columns = Math.ceil(Math.sqrt(points.length));
  const sprite = await dataUrl(
    tiled(
      points.map(({ thumbnail }) => thumbnail),
      side,
      columns,
    ),
  );
  const labels = [...classNames.keys()].sort((a, b) => a - b);
  const data = {
    side,
    columns,
    x: points.map(({ x }) => Number(x.toFixed(4))),
    y: points.map(({ y }) => Number(y.toFixed(4))),
    label: points.map(({ label }) => label ?? -1),
    name: points.map(({ name }) => name),
    classes: Object.fromEntries(labels.map((label) => [label, [classNames.get(label), classColour(label)]])),
  };
  const legend = labels
    .slice(0, MOST_LISTED)
    .map(
      (label) =>
        `<button type="button" data-label="${label}"><i style="background:${classColour(label)}"></i>${escapeXml(classNames.get(label)!)}</button>`,
    );
  const more = labels.length > MOST_LISTED ? `<span class="note">and ${labels.length - MOST_LISTED} more</span>` : '';
  // "<" inside a script could end it.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return htmlPage({
    title,
    body: [
      pageHeader(title, subtitle, []),
      `<div class="legend">${legend.join('')}${more}</div>`,
      '<div class="map"><canvas></canvas><div class="card" hidden><div class="thumb"></div><b></b><span></span></div></div>',
      '<p class="note">Drag to move, wheel to come nearer, double click for the whole. Only nearness means something, not the axes.</p>',
    ],
    style: MAP_STYLE,
    script: `const data=${json};const sprite=${JSON.stringify(sprite)};${MAP_SCRIPT}`,
  });
}

const MAP_STYLE = `
.map { position: relative; margin-top: 12px; }
.map canvas { display: block; width: 100%; height: min(72vh, 760px); background: var(--card); border: 1px solid var(--line); border-radius: 10px; touch-action: none; cursor: grab; }
.card { position: absolute; pointer-events: none; padding: 8px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; box-shadow: 0 4px 18px #0004; font-size: 12px; max-width: 220px; overflow-wrap: anywhere; }
.card b, .card span { display: block; } .card span { color: var(--soft); }
.thumb { width: 128px; height: 128px; border-radius: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 6px; margin-top: 16px; }
.legend button { font: inherit; font-size: 12.5px; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 999px; padding: 2px 10px; cursor: pointer; }
.legend button.on { border-color: var(--ink); }
.legend i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 5px; }
`;

const MAP_SCRIPT = `
const canvas = document.querySelector('canvas'), card = document.querySelector('.card'), pen = canvas.getContext('2d');
const picture = new Image(); picture.onload = draw; picture.src = sprite;
const n = data.x.length, chosen = new Set();
const low = [Math.min(...data.x), Math.min(...data.y)], high = [Math.max(...data.x), Math.max(...data.y)];
let zoom = 1, moveX = 0, moveY = 0, hovered = -1, dragged = null;
function place(i) {
  const w = canvas.clientWidth, h = canvas.clientHeight;
  const unit = 0.92 * Math.min(w / (high[0] - low[0] || 1), h / (high[1] - low[1] || 1));
  return [w / 2 + moveX + zoom * unit * (data.x[i] - (low[0] + high[0]) / 2),
    h / 2 + moveY + zoom * unit * (data.y[i] - (low[1] + high[1]) / 2)];
}
function colour(i) { const found = data.classes[data.label[i]]; return found ? found[1] : '#6ea8ff'; }
function draw() {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  canvas.width = w * ratio; canvas.height = h * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const size = Math.min(10 * zoom, data.side), pictures = size >= 24;
  for (let i = 0; i < n; i++) {
    const [x, y] = place(i);
    if (x < -size || y < -size || x > w + size || y > h + size) continue;
    pen.globalAlpha = chosen.size > 0 && !chosen.has(data.label[i]) ? 0.08 : pictures ? 1 : 0.8;
    pen.fillStyle = colour(i);
    if (pictures) {
      pen.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
      pen.drawImage(picture, (i % data.columns) * data.side, Math.floor(i / data.columns) * data.side, data.side, data.side,
        x - size / 2, y - size / 2, size, size);
    } else {
      pen.beginPath(); pen.arc(x, y, i === hovered ? 7 : 4, 0, 7); pen.fill();
    }
  }
  pen.globalAlpha = 1;
}
function show(i, x, y) {
  card.hidden = i < 0;
  if (i < 0) return;
  const thumb = card.querySelector('.thumb'), scale = 128 / data.side;
  thumb.style.backgroundImage = 'url(' + sprite + ')';
  thumb.style.backgroundSize = data.columns * 128 + 'px';
  thumb.style.backgroundPosition = -(i % data.columns) * 128 + 'px ' + -Math.floor(i / data.columns) * 128 + 'px';
  const found = data.classes[data.label[i]];
  card.querySelector('b').textContent = found ? found[0] : '';
  card.querySelector('span').textContent = data.name[i];
  card.style.left = Math.min(x + 14, canvas.clientWidth - 180) + 'px';
  card.style.top = Math.min(y + 14, canvas.clientHeight - 190) + 'px';
}
canvas.addEventListener('pointerdown', (event) => { dragged = [event.offsetX, event.offsetY]; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener('pointerup', () => { dragged = null; });
canvas.addEventListener('pointerleave', () => { hovered = -1; show(-1); draw(); });
canvas.addEventListener('pointermove', (event) => {
  const { offsetX: x, offsetY: y } = event;
  if (dragged) { moveX += x - dragged[0]; moveY += y - dragged[1]; dragged = [x, y]; show(-1); draw(); return; }
  let best = 400, nearest = -1;
  for (let i = 0; i < n; i++) {
    const [px, py] = place(i), distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < best) { best = distance; nearest = i; }
  }
  if (nearest !== hovered) { hovered = nearest; draw(); }
  show(nearest, x, y);
});
canvas.addEventListener('wheel', (event) => {
  event.preventDefault();
  const factor = Math.exp(-event.deltaY / 500), next = Math.min(Math.max(zoom * factor, 0.5), 60);
  const x = event.offsetX - canvas.clientWidth / 2, y = event.offsetY - canvas.clientHeight / 2;
  moveX = x - ((x - moveX) * next) / zoom; moveY = y - ((y - moveY) * next) / zoom; zoom = next; draw();
}, { passive: false });
canvas.addEventListener('dblclick', () => { zoom = 1; moveX = moveY = 0; draw(); });
document.querySelectorAll('.legend button').forEach((button) => button.addEventListener('click', () => {
  const label = Number(button.dataset.label);
  if (chosen.has(label)) chosen.delete(label); else chosen.add(label);
  button.classList.toggle('on', chosen.has(label)); draw();
}));
window.addEventListener('resize', draw);
draw();
`;
