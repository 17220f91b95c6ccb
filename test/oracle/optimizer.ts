/**
 * Gradient clipping, AdamW with the teacher's moving average and the loss scale in float64, as the PyTorch documentation
 * writes them.
 */

import type { LossScale } from '../../src/tensor/loss_scale.js';
import type { AdamWRates, OptimizerGroup } from '../../src/tensor/optimizer.js';

export function norm(...lists: readonly ArrayLike<number>[]): number {
  let squares = 0;
  for (const list of lists) for (let i = 0; i < list.length; i++) squares += list[i] * list[i];
  return Math.sqrt(squares);
}

export function clipCoefficient(gradientNorm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (gradientNorm + 1e-6)) : 1;
}

export interface AdamWState {
  readonly student: ArrayLike<number>;
  readonly firstMoment: ArrayLike<number>;
  readonly secondMoment: ArrayLike<number>;
  readonly teacher: ArrayLike<number>;
}

/**
 * One step of one parameter. Returns the new state.
 * @param step counts the steps that are applied, from 1
 */
export function adamW(
  state: AdamWState,
  gradient: ArrayLike<number>,
  coefficient: number,
  group: OptimizerGroup,
  rates: AdamWRates,
  step: number,
): { student: Float64Array; firstMoment: Float64Array; secondMoment: Float64Array; teacher: Float64Array } {
  const { beta1, beta2, epsilon, teacherMomentum } = rates;
  const lr = (group.isLastLayer ? rates.lastLayerLearningRate : rates.learningRate) * group.lrMultiplier;
  const count = gradient.length;
  const student = new Float64Array(count);
  const firstMoment = new Float64Array(count);
  const secondMoment = new Float64Array(count);
  const teacher = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const g = gradient[i] * coefficient;
    firstMoment[i] = beta1 * state.firstMoment[i] + (1 - beta1) * g;
    secondMoment[i] = beta2 * state.secondMoment[i] + (1 - beta2) * g * g;
    const mean = firstMoment[i] / (1 - beta1 ** step);
    const deviation = Math.sqrt(secondMoment[i] / (1 - beta2 ** step));
    const decayed = state.student[i] * (1 - lr * rates.weightDecay * group.wdMultiplier);
    student[i] = decayed - (lr * mean) / (deviation + epsilon);
    teacher[i] = teacherMomentum * state.teacher[i] + (1 - teacherMomentum) * student[i];
  }
  return { student, firstMoment, secondMoment, teacher };
}

/** The loss scale after a step. */
export function nextLossScale(state: LossScale, overflow: boolean, growthInterval: number): LossScale {
  const { scale, cleanSteps, appliedSteps, skippedSteps } = state;
  if (overflow) {
    return { scale: Math.max(scale / 2, 1), cleanSteps: 0, appliedSteps, skippedSteps: skippedSteps + 1 };
  }
  const clean = growthInterval > 0 ? cleanSteps + 1 : cleanSteps;
  const grows = growthInterval > 0 && clean >= growthInterval;
  return {
    scale: grows ? scale * 2 : scale,
    cleanSteps: grows ? 0 : clean,
    appliedSteps: appliedSteps + 1,
    skippedSteps,
  };
}
