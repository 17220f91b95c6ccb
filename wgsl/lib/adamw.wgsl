// The AdamW update of one quad of elements, for the kernels that walk a flat buffer of parameters by chunks.
// A chunk lies in one parameter, so its multipliers are looked up once.
struct Chunk {
  // In quads of elements.
  first: u32,
  end: u32,
  // Sub-module, whose clip coefficient applies.
  module_index: u32,
  last_layer: u32,
  lr_multiplier: f32,
  wd_multiplier: f32,
}

// Complements and bias corrections are made on the CPU in float64: 1 - 0.999 has an error of 2e-5 in float32.
struct Hyper {
  lr: f32,
  last_layer_lr: f32,
  weight_decay: f32,
  // 1 - momentum of the teacher.
  teacher_rate: f32,
  // 1 - beta1, 1 - beta2.
  rate1: f32,
  rate2: f32,
  epsilon: f32,
  // 1 / (1 - beta1^t), 1 / sqrt(1 - beta2^t).
  correction1: f32,
  correction2: f32,
}

@group(0) @binding(0) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> chunks: array<Chunk>;
@group(0) @binding(2) var<storage, read> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read> hyper: Hyper;
@group(0) @binding(4) var<storage, read_write> student: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<vec4<f32>>;

// Updates quad i and returns its new weights. The decay and the step are subtracted together: 1 - lr * wd would lose most
// of the decay's digits. A coefficient of 0 (gradients that are not finite) changes nothing.
fn adamw(i: u32, chunk: Chunk) -> vec4<f32> {
  let weight = student[i];
  let coefficient = coefficients[chunk.module_index];
  if (coefficient == 0.0) {
    return weight;
  }
  let lr = select(hyper.lr, hyper.last_layer_lr, chunk.last_layer != 0u) * chunk.lr_multiplier;
  let g = gradients[i] * coefficient;
  let m_old = first_moment[i];
  let v_old = second_moment[i];
  let m = m_old + hyper.rate1 * (g - m_old);
  let v = v_old + hyper.rate2 * (g * g - v_old);
  let denominator = sqrt(v) * hyper.correction2 + vec4<f32>(hyper.epsilon);
  let decay = lr * hyper.weight_decay * chunk.wd_multiplier;
  let updated = weight - (decay * weight + lr * hyper.correction1 * (m / denominator));
  first_moment[i] = m;
  second_moment[i] = v;
  student[i] = updated;
  return updated;
}
