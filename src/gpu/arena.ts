/**
 * Gives every intermediate of a program a place by its lifetime.
 *
 * WebGPU forbids one buffer bound `read` and `read_write` in one dispatch, even for disjoint ranges. So the tensors are
 * first coloured: a dispatch's outputs get another colour than its inputs, and each colour becomes buffers of its own.
 * Within a colour, tensors are placed largest first at the lowest offset that is free during their whole lifetime.
 */

import { GpuError } from '../errors.js';

export interface ArenaItem {
  readonly name: string;
  /** Multiple of 256. */
  readonly sizeBytes: number;
  /** Indices of the first and last dispatch that touch it. */
  first: number;
  last: number;
}

export interface ArenaPlan {
  /** For each item: the arena it lies in and its offset there. */
  readonly places: readonly { readonly arena: number; readonly offsetBytes: number }[];
  readonly arenaBytes: readonly number[];
}

/**
 * @param items the intermediates, with lifetimes
 * @param conflicts for each item, the items that must not share its buffer
 * @param maxArenaBytes the adapter's maxBufferSize: a colour that outgrows it continues in another buffer
 */
export function planArenas(
  items: readonly ArenaItem[],
  conflicts: readonly ReadonlySet<number>[],
  maxArenaBytes: number,
): ArenaPlan {
  const colour = new Array<number>(items.length).fill(-1);
  const byBirth = items.map((_, i) => i).sort((a, b) => items[a].first - items[b].first || a - b);
  let colours = 0;
  for (const i of byBirth) {
    const taken = new Set([...conflicts[i]].map((j) => colour[j]));
    let c = 0;
    while (taken.has(c)) c++;
    colour[i] = c;
    colours = Math.max(colours, c + 1);
  }

  const places = new Array<{ arena: number; offsetBytes: number }>(items.length);
  const arenaBytes: number[] = [];
  for (let c = 0; c < colours; c++) {
    const members = items.map((_, i) => i).filter((i) => colour[i] === c);
    members.sort((a, b) => items[b].sizeBytes - items[a].sizeBytes || a - b);
    // Arenas of this colour, each with what is placed in it, sorted by offset.
    const arenas: { index: number; placed: { item: number; offset: number }[] }[] = [];
    for (const i of members) {
      const { sizeBytes, first, last, name } = items[i];
      if (sizeBytes > maxArenaBytes) {
        throw new GpuError(
          `${name} needs ${sizeBytes} bytes; this adapter's maxBufferSize is ${maxArenaBytes}: use a smaller batch or model`,
        );
      }
      let found = false;
      for (const arena of arenas) {
        let offset = 0;
        for (const p of arena.placed) {
          const other = items[p.item];
          if (other.last < first || other.first > last) continue;
          if (offset + sizeBytes <= p.offset) break;
          offset = Math.max(offset, p.offset + other.sizeBytes);
        }
        if (offset + sizeBytes > maxArenaBytes) continue;
        const at = arena.placed.findIndex((p) => p.offset > offset);
        arena.placed.splice(at < 0 ? arena.placed.length : at, 0, { item: i, offset });
        places[i] = { arena: arena.index, offsetBytes: offset };
        arenaBytes[arena.index] = Math.max(arenaBytes[arena.index], offset + sizeBytes);
        found = true;
        break;
      }
      if (!found) {
        const index = arenaBytes.length;
        arenas.push({ index, placed: [{ item: i, offset: 0 }] });
        arenaBytes.push(sizeBytes);
        places[i] = { arena: index, offsetBytes: 0 };
      }
    }
  }
  return { places, arenaBytes };
}
