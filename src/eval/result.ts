/** What an evaluation ends with, one shape for all tasks: tables, JSON, CSV and pages are made from it. */

export interface Metric {
  /** `top1`, `mIoU`, `RMSE`. */
  readonly name: string;
  readonly value: number;
  readonly unit: '%' | 'm' | '';
  readonly better: 'higher' | 'lower';
  /** 95 %, by bootstrap over test pictures (queries, in retrieval). */
  readonly interval?: readonly [number, number];
}

export interface ModelResult {
  readonly model: string;
  readonly floor: boolean;
  /** The first one is the headline. */
  readonly metrics: readonly Metric[];
  /** What was chosen on the way, such as a learning rate. */
  readonly chosen?: Readonly<Record<string, string | number | boolean>>;
}

/** How far one model is ahead of another in the headline metric, from the same bootstrap draws for both. */
export interface Margin {
  readonly model: string;
  readonly against: string;
  readonly metric: string;
  readonly unit: Metric['unit'];
  /** In the direction of `better`: positive where `model` is ahead. */
  readonly difference: number;
  readonly interval: readonly [number, number];
}

/** A picture as bytes: u8 [height, width, 3], RGB. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** What a page shows beside the numbers. */
export type Figure =
  | {
      readonly kind: 'confusion';
      readonly title: string;
      readonly classNames: readonly string[];
      /** [truth, prediction] counts, C order. */
      readonly counts: ArrayLike<number>;
    }
  | {
      readonly kind: 'reliability';
      readonly title: string;
      /** Confidence of each prediction in 0..1, and whether it was right. */
      readonly confidence: ArrayLike<number>;
      readonly correct: ArrayLike<number>;
    }
  | {
      readonly kind: 'bars';
      readonly title: string;
      readonly unit: Metric['unit'];
      readonly bars: readonly { readonly label: string; readonly value: number }[];
    }
  | {
      readonly kind: 'scatter';
      readonly title: string;
      readonly xLabel: string;
      readonly yLabel: string;
      readonly points: readonly (readonly [number, number])[];
      /** Draws y = x. */
      readonly diagonal: boolean;
    }
  | {
      readonly kind: 'gallery';
      readonly title: string;
      /** One row a sample: pictures side by side, a caption each. */
      readonly rows: readonly {
        readonly caption: string;
        readonly pictures: readonly { readonly caption: string; readonly picture: Picture }[];
      }[];
    };

export interface EvaluationReport {
  /** The verb: `knn`, `linear`, `segment`. */
  readonly task: string;
  /** What people call the data: the name of its folder. */
  readonly dataset: string;
  readonly train: { readonly path: string; readonly pictures: number };
  readonly test: { readonly path: string; readonly pictures: number };
  /** Everything that another run needs to get the same numbers. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The model in question first, then `--compare`, then the floors. */
  readonly models: readonly ModelResult[];
  readonly margins: readonly Margin[];
  readonly figures: readonly Figure[];
  /** What a reader must know: capped k, pictures left out, classes without a picture. */
  readonly notes: readonly string[];
  readonly seconds: number;
}
