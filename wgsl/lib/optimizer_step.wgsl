// What one optimizer step is made with. Complements are made on the CPU in float64: 1 - 0.999 has an error of 2e-5 in float32.
struct Rates {
  lr: f32,
  last_layer_lr: f32,
  weight_decay: f32,
  // 1 - momentum of the teacher.
  teacher_rate: f32,
  // 1 - beta1, 1 - beta2.
  rate1: f32,
  rate2: f32,
  epsilon: f32,
  // 0 or less: no clipping.
  max_norm: f32,
}

struct Step {
  rates: Rates,
  // 1 / (1 - beta1^t), 1 / sqrt(1 - beta2^t), with t the steps applied, this one among them.
  correction1: f32,
  correction2: f32,
  // Of each sub-module's gradients: clip coefficient / loss scale, or all 0 in a step that is skipped.
  coefficients: array<f32>,
}
