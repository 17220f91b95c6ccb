/**
 * Alarms for the ways a DINOv2 run fails without an error: a teacher that says the same of every picture, one
 * that puts everything on one prototype, features that shrink to a point, KoLeo that pulls harder than DINO teaches.
 * From a few numbers a logged step, in plain words, each with a cure, each said once until it has clearly passed, and
 * within the first hundred steps: before an evening is spent on a run that cannot learn.
 */
import { WebdinoError } from '../errors.js';

/** What the alarms look at; everything but the step may be missing. */
export interface CollapseSigns {
  step: number;
  /** Mean over dimensions of the standard deviation over the batch of L2-normalised CLS features; see {@link featureStd}. */
  featureStd?: number;
  /** Mean entropy of the teacher's target distributions, nats; see {@link meanEntropy}. */
  teacherEntropy?: number;
  /** Entropy of the teacher's distribution averaged over the batch, nats: small when everything is on one prototype. */
  teacherMarginalEntropy?: number;
  /** Sum of the two logged DINO losses; ln K for a student that says nothing. */
  dinoLoss?: number;
  /** Logged KoLeo loss (weighted). */
  koleoLoss?: number;
}

/** What the run is like. */
export interface CollapseOptions {
  /** Prototypes K of the DINO head. */
  prototypes: number;
  /** Feature dimensions D. */
  embedDim: number;
  /** dino.koleo_loss_weight. */
  koleoWeight: number;
}

/** The alarms. */
export type CollapseKind = 'uniform-teacher' | 'one-prototype' | 'shrunken-features' | 'koleo-dominates';

/** One alarm. `message` says what is seen, `cure` what to change. */
export interface CollapseWarning {
  kind: CollapseKind;
  step: number;
  message: string;
  cure: string;
}

/** A sign must be seen at every logged step over this many iterations: the first steps of a healthy run look odd too. */
const PERSISTENCE_STEPS = 50;

/** Normalised features start close together, and KoLeo falls fastest in the first steps; both get this long. */
const SETTLING_STEPS = 80;

/**
 * Share of ln K above which a teacher is called uniform. Measured over the first 100 steps: 1.000 with LayerScale 1e-5 and
 * 8,192 prototypes; 0.85 to 0.94 at temperatures 0.04 to 0.06, 0.4 to 0.6 at 0.01 to 0.02 with 256 or 512.
 */
const UNIFORM_SHARE = 0.985;

/** Share of ln K below which an entropy is called zero. */
const PEAKED_SHARE = 0.02;

/** Share of the healthy 1/√D below which features are called shrunken. */
const SHRUNKEN_SHARE = 0.1;

/**
 * KoLeo dominates when what it takes from the objective is more than this share of what the DINO loss lies below ln K,
 * where a student that knows nothing is. Measured at step 60 to 100 (photographs, 32 px, batch 64): 0 to 0.45 in runs that
 * gained 11 to 28 points of kNN over five sets, 0.6 to 1.5 in runs that gained 1 to 10.
 */
const KOLEO_SHARE = 0.75;

/** The share below which the alarm is armed again. */
const KOLEO_SHARE_PASSED = 0.5;

/** Nats that unweighted KoLeo must have gained before shares are looked at. */
const KOLEO_GAIN = 0.5;

/**
 * Points of kNN above the untrained network from which KoLeo may pull as it likes: on handwritten digits a strong one brings
 * most of what a hundred steps can (0.3: 9 points, 0.1: 9, 0.03: 1), on photographs it undoes what DINO learns.
 */
const KNN_GAIN = 2;

interface Alarm {
  /** Step at which the sign was first seen without a break. */
  since: number | undefined;
  said: boolean;
}

/** Watches one run. Feed it every logged step; it returns the alarms that are new. */
export class CollapseWatch {
  private readonly alarms = new Map<CollapseKind, Alarm>();
  private firstKoleo: number | undefined;
  private firstTop1: number | undefined;
  private lastTop1: number | undefined;

  constructor(private readonly options: CollapseOptions) {}

  /** Percent right by the run's own kNN: first before training, then of the teacher on the way. */
  observeKnn(top1: number): void {
    this.firstTop1 ??= top1;
    this.lastTop1 = top1;
  }

  /** New alarms after this step, usually none. */
  observe(signs: CollapseSigns): CollapseWarning[] {
    const { step, featureStd, teacherEntropy, teacherMarginalEntropy, dinoLoss, koleoLoss } = signs;
    const { prototypes, embedDim, koleoWeight } = this.options;
    const uniform = Math.log(prototypes);
    const warnings: CollapseWarning[] = [];
    const watch = (kind: CollapseKind, seen: boolean, passed: boolean, message: string, cure: string, earliest = 0) => {
      const alarm = this.alarms.get(kind) ?? { since: undefined, said: false };
      this.alarms.set(kind, alarm);
      // Between "seen" and "passed" nothing changes, so a number that hovers at the threshold is not said again and again.
      if (passed) Object.assign(alarm, { since: undefined, said: false });
      else if (seen) alarm.since ??= step;
      else if (!alarm.said) alarm.since = undefined;
      if (!seen || alarm.said || step < earliest || step - alarm.since! < PERSISTENCE_STEPS) return;
      alarm.said = true;
      warnings.push({ kind, step, message, cure });
    };

    if (teacherEntropy !== undefined) {
      const share = teacherEntropy / uniform;
      watch(
        'uniform-teacher',
        share > UNIFORM_SHARE,
        share < 1 - 2 * (1 - UNIFORM_SHARE),
        `The teacher says nearly the same of every picture: its entropy is ${teacherEntropy.toFixed(2)} of at most ${uniform.toFixed(2)} (ln ${prototypes}). There is nothing to learn from it.`,
        'Set student.layerscale to 0.1 or 1, use fewer prototypes (dino.head_n_prototypes), train.centering sinkhorn_knopp, or a lower teacher.teacher_temp (0.02): the small presets have all of these.',
      );
    }
    const peaked = teacherMarginalEntropy ?? teacherEntropy;
    if (peaked !== undefined) {
      const what =
        teacherMarginalEntropy !== undefined
          ? 'The teacher puts every picture on the same few prototypes'
          : 'The teacher is nearly certain of one prototype for each picture';
      watch(
        'one-prototype',
        peaked < PEAKED_SHARE * uniform,
        peaked > 2 * PEAKED_SHARE * uniform,
        `${what}: its entropy is ${peaked.toFixed(3)} of at most ${uniform.toFixed(2)} (ln ${prototypes}).`,
        'Use train.centering sinkhorn_knopp, a higher teacher.warmup_teacher_temp, or a lower optim.base_lr.',
      );
    }
    if (featureStd !== undefined) {
      const healthy = 1 / Math.sqrt(embedDim);
      watch(
        'shrunken-features',
        featureStd < SHRUNKEN_SHARE * healthy,
        featureStd > 2 * SHRUNKEN_SHARE * healthy,
        `Features of different pictures are nearly equal: their spread is ${featureStd.toExponential(1)}, healthy is about ${healthy.toFixed(3)}.`,
        'Set student.layerscale to 0.1 or 1, lower optim.base_lr, or raise teacher.momentum_teacher.',
        SETTLING_STEPS,
      );
    }
    if (koleoLoss !== undefined && koleoWeight > 0) {
      this.firstKoleo ??= koleoLoss;
      const gain = (this.firstKoleo - koleoLoss) / koleoWeight;
      if (dinoLoss !== undefined) {
        // The log has the mean over the two global crops, the objective their sum.
        const koleoTook = 2 * (this.firstKoleo - koleoLoss);
        const learned = Math.max(uniform - dinoLoss, 0);
        const knnRises = (this.lastTop1 ?? 0) - (this.firstTop1 ?? 0) >= KNN_GAIN;
        watch(
          'koleo-dominates',
          gain > KOLEO_GAIN && koleoTook > KOLEO_SHARE * learned && !knnRises,
          koleoTook < KOLEO_SHARE_PASSED * learned,
          `KoLeo drives the training: it took ${koleoTook.toFixed(2)} from the objective, DINO ${learned.toFixed(2)} (its loss is ${dinoLoss.toFixed(2)}, a student that knows nothing has ${uniform.toFixed(2)}, ln ${prototypes}). Pictures are pushed apart, alike or not.`,
          'Unless kNN rises (train.eval_period), lower dino.koleo_loss_weight to 0.03 or 0; then, if the DINO loss does not fall, lower teacher.teacher_temp.',
          SETTLING_STEPS,
        );
      }
    }
    return warnings;
  }
}

/**
 * Spread of features: rows are L2-normalised, then the standard deviation over rows is averaged over dimensions.
 * About 1/√D for features that point everywhere, 0 for equal ones.
 *
 * @param features `[n, d]`, C order.
 */
export function featureStd(features: Float32Array, n: number, d: number): number {
  const sum = new Float64Array(d);
  const squares = new Float64Array(d);
  for (let row = 0; row < n; row++) {
    let norm = 0;
    for (let j = 0; j < d; j++) norm += features[row * d + j] ** 2;
    const scale = 1 / Math.max(Math.sqrt(norm), 1e-12);
    for (let j = 0; j < d; j++) {
      const value = features[row * d + j] * scale;
      sum[j] += value;
      squares[j] += value * value;
    }
  }
  let total = 0;
  for (let j = 0; j < d; j++) total += Math.sqrt(Math.max(squares[j] / n - (sum[j] / n) ** 2, 0));
  return total / d;
}

/**
 * Mean over rows of the entropy of each row, nats.
 * @param probabilities `[n, k]`, C order, rows that sum to 1.
 */
export function meanEntropy(probabilities: Float32Array, n: number, k: number): number {
  let total = 0;
  for (let i = 0; i < n * k; i++) if (probabilities[i] > 0) total -= probabilities[i] * Math.log(probabilities[i]);
  return total / n;
}

/**
 * Stops a run whose losses are no numbers any more.
 * @throws WebdinoError naming the terms and the step.
 */
export function checkFinite(losses: Readonly<Record<string, number>>, step: number): void {
  const bad = Object.entries(losses).filter(([, value]) => !Number.isFinite(value));
  if (bad.length === 0) return;
  // A total is only bad because a term is: name the term where there is one.
  const terms = bad.length > 1 ? bad.filter(([name]) => name !== 'total_loss') : bad;
  const list = terms.map(([name, value]) => `${name} is ${value}`).join(', ');
  throw new WebdinoError(
    `Training stopped at step ${step}: ${list}. Resume from the last checkpoint with a lower optim.lr` +
      `${terms.some(([name]) => name.startsWith('koleo')) ? ' or dino.koleo_loss_weight 0' : ''}, or train.dtype f32.`,
  );
}
