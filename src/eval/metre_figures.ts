/** Figures of predictions in metres: a gallery, and truth against prediction. */

import type { DensePair, TargetMap } from '../data/dense_source.js';
import { galleryMap, galleryPhoto, metreErrorPicture, metrePicture } from './map_pictures.js';
import type { FirstModel } from './pixel_evaluation.js';
import type { Figure } from './result.js';

/** Points of the scatter plot: more only blacken it. */
const POINTS = 2000;

export function metreFigures(
  { name, samples }: FirstModel,
  truthOf: (pair: DensePair) => TargetMap<Float32Array>,
  what: string,
): Figure[] {
  const points: [number, number][] = [];
  const total = samples.reduce((sum, { pair }) => sum + truthOf(pair).values.length, 0);
  const step = Math.max(Math.floor(total / POINTS), 1);
  const rows = samples.map(({ pair, predictions }) => {
    const photo = galleryPhoto(pair.picture);
    const { values: truth, ...size } = truthOf(pair);
    const first = predictions[0].prediction.values as Float32Array;
    for (let i = 0; i < truth.length; i += step) if (!Number.isNaN(truth[i])) points.push([truth[i], first[i]]);
    const measured = truth.filter((value) => !Number.isNaN(value)).sort();
    // All maps of a row have one scale, without the outermost values.
    const [low, high] = [0.02, 0.98].map((share) => measured[Math.floor(share * (measured.length - 1))]);
    const show = (caption: string, picture: Parameters<typeof galleryMap>[0]) => ({
      caption,
      picture: galleryMap(picture, photo),
    });
    return {
      caption: `${pair.name}: ${low.toFixed(1)} to ${high.toFixed(1)} m`,
      pictures: [
        { caption: 'picture', picture: photo },
        show('truth', metrePicture(truth, size, low, high)),
        ...predictions.map(({ model, prediction }) =>
          show(model, metrePicture(prediction.values as Float32Array, prediction, low, high)),
        ),
        show(
          `error of ${name}, up to ${(high - low || 1).toFixed(1)} m`,
          metreErrorPicture(truth, first, size, high - low),
        ),
      ],
    };
  });
  return [
    { kind: 'gallery', title: 'Test pictures', rows },
    {
      kind: 'scatter',
      title: `Pixels: ${name}`,
      xLabel: `true ${what}, m`,
      yLabel: `predicted ${what}, m`,
      points,
      diagonal: true,
    },
  ];
}
