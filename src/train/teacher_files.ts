/**
 * The frozen teacher of a distillation on the disk: a run or checkpoint of ours with its heads, or a backbone whose heads
 * lie in a file of their own or are still to be trained. Sizes are read off the shapes, as for any model. Node only.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { HeadConfig } from '../dinov2/head.js';
import { PREFIX } from '../dinov2/network.js';
import type { VitConfig } from '../dinov2/vit.js';
import { DataError } from '../errors.js';
import { backbonePlaces, inferVitConfig, locateModel, readFloats, readPlaces } from '../eval/model_file.js';
import type { TensorPlace } from '../io/safetensors.js';
import type { ParameterStore } from '../tensor/parameters.js';
import { loadConfig, type ResolvedConfig } from './config.js';

/** A teacher that is found. */
export interface TeacherFiles {
  /** The .safetensors file of the backbone. */
  readonly weightsPath: string;
  /** That of the heads: the same, or one of their own. */
  readonly headsPath: string;
  readonly vit: VitConfig;
  readonly dinoHead?: HeadConfig;
  /** A head of its own for the patches, where it has one. */
  readonly ibotHead?: HeadConfig;
  /** The configuration of the run that wrote it, where there is one. */
  readonly config?: ResolvedConfig;
  /** SHA-256 of the files. */
  readonly sha256: string;
}

/** Values that are read before they go to the GPU. */
const PENDING_BYTES = 256 * 2 ** 20;

type Places = ReadonlyMap<string, TensorPlace>;

/**
 * Finds the teacher that a configuration names and reads what it is like.
 * @throws DataError if there is none, or its parts do not belong together
 */
export async function findTeacher({ distill }: Pick<ResolvedConfig, 'distill'>): Promise<TeacherFiles> {
  const { weightsPath, configPath } = await locateModel(distill.teacher, 'teacher');
  const config = configPath === undefined ? undefined : loadConfig({ file: configPath });
  const headsPath = distill.heads === '' ? weightsPath : distill.heads;
  const numHeads = config?.student.num_heads ?? distill.teacher_num_heads;
  const vit = await reading(weightsPath, async (places) => {
    const shapes = new Map([...backbonePlaces(places)].map(([name, { shape }]) => [name, shape]));
    return inferVitConfig(shapes, {
      numHeads: numHeads > 0 ? numHeads : undefined,
      interpolateOffset: config?.student.interpolate_offset,
      interpolateAntialias: config?.student.interpolate_antialias,
    });
  });
  const heads = await reading(headsPath, async (places) => {
    const named = headPlaces(places);
    return { dinoHead: headOf(named, PREFIX.dino), ibotHead: headOf(named, PREFIX.ibot) };
  });
  for (const head of [heads.dinoHead, heads.ibotHead]) {
    if (head && head.inputs !== vit.embedDim) {
      throw new DataError(
        `${headsPath}: its heads take features of ${head.inputs}; the backbone of ${weightsPath} gives ${vit.embedDim}`,
      );
    }
  }
  const sha256 = await hashOf(headsPath === weightsPath ? [weightsPath] : [weightsPath, headsPath]);
  return { weightsPath, headsPath, vit, ...heads, config, sha256 };
}

/**
 * Writes backbone (and, where the store has them, heads) into a store with the prefixes of a network, a tensor at a time.
 * @throws DataError for a tensor that is missing or has another shape
 */
export async function loadTeacher({ weightsPath, headsPath }: TeacherFiles, store: ParameterStore): Promise<void> {
  const isBackbone = (name: string): boolean => name.startsWith(PREFIX.backbone);
  const load = (path: string, wanted: (name: string) => boolean, named: (places: Places) => Places): Promise<void> =>
    reading(path, async (places, file) => {
      const found = named(places);
      // Some at a time: each write refreshes a half copy of the whole store, and the queue holds what is written.
      let pending = new Map<string, Float32Array>();
      let pendingElements = 0;
      const flush = async (): Promise<void> => {
        await store.writeAll(pending);
        await store.gpu.finish();
        pending = new Map();
        pendingElements = 0;
      };
      for (const name of store.names.filter(wanted)) {
        const { shape, elements } = store.get(name);
        const place = found.get(name);
        // The mask token is used in training only; other libraries drop it, and here nothing is masked.
        if (!place && !name.endsWith('mask_token')) throw new DataError(`tensor ${name} is missing`);
        if (place && place.shape.join(' ') !== shape.join(' ')) {
          throw new DataError(`tensor ${name} is [${place.shape}]; this network needs [${shape}]`);
        }
        pending.set(name, place ? await readFloats(file, place, name) : new Float32Array(elements));
        pendingElements += elements;
        if (4 * pendingElements > PENDING_BYTES) await flush();
      }
      await flush();
    });
  await load(
    weightsPath,
    isBackbone,
    (places) => new Map([...backbonePlaces(places)].map(([name, place]) => [PREFIX.backbone + name, place])),
  );
  await load(headsPath, (name) => !isBackbone(name), headPlaces);
}

/**
 * The centres that the teacher had in its own training, where its run kept them with the right sizes: softmax centring then
 * starts from them and not from zero.
 */
export async function teacherCenters(
  { headsPath }: TeacherFiles,
  store: ParameterStore,
): Promise<Map<string, Float32Array>> {
  const path = join(dirname(headsPath), 'optimizer.safetensors');
  const values = new Map<string, Float32Array>();
  const there = await stat(path).catch(() => undefined);
  if (!there) return values;
  return reading(path, async (places, file) => {
    for (const name of store.names) {
      const place = places.get(name);
      if (place && place.shape.join(' ') === store.get(name).shape.join(' ')) {
        values.set(name, await readFloats(file, place, name));
      }
    }
    return values;
  });
}

async function reading<T>(
  path: string,
  body: (places: Places, file: Awaited<ReturnType<typeof open>>) => Promise<T>,
): Promise<T> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    throw new DataError(`${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
  try {
    return await body(await readPlaces(file), file);
  } catch (error) {
    if (error instanceof DataError) throw new DataError(`${path}: ${error.message}`, { cause: error });
    throw error;
  } finally {
    await file.close();
  }
}

/** Tensors of heads by their official names; what else a file holds is left aside. */
function headPlaces(places: Places): Map<string, TensorPlace> {
  const named = [...places].map(([key, place]): [string, TensorPlace] => [
    key.replaceAll('module.', '').replace(/^teacher\./, ''),
    place,
  ]);
  return new Map(named.filter(([name]) => name.startsWith(PREFIX.dino) || name.startsWith(PREFIX.ibot)));
}

/** The sizes of a head, or undefined where there is none. */
function headOf(places: Places, prefix: string): HeadConfig | undefined {
  const prototypes = places.get(`${prefix}last_layer.weight_v`);
  if (!prototypes) return undefined;
  const single = places.get(`${prefix}mlp.weight`);
  const layers = single
    ? 1
    : [...places.keys()].filter((name) => /mlp\.\d+\.weight$/.test(name.replace(prefix, '')) && name.startsWith(prefix))
        .length;
  const first = single ?? places.get(`${prefix}mlp.0.weight`);
  if (first?.shape.length !== 2) throw new DataError(`tensor ${prefix}mlp.0.weight is missing or no matrix`);
  return {
    inputs: first.shape[1],
    hidden: first.shape[0],
    bottleneck: prototypes.shape[1],
    prototypes: prototypes.shape[0],
    layers,
  };
}

async function hashOf(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
