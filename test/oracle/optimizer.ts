/** Gradient clipping and AdamW with the teacher's moving average in float64, as the PyTorch documentation writes them. */

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

/** One step of one parameter. Returns the new state. */
export function adamW(
  state: AdamWState,
  gradient: ArrayLike<number>,
  coefficient: number,
  group: OptimizerGroup,
  rates: AdamWRates,
): { student: Float64Array; firstMoment: Float64Array; secondMoment: Float64Array; teacher: Float64Array } {
  const { beta1, beta2, epsilon, step, teacherMomentum } = rates;
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
