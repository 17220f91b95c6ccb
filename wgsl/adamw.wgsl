// One AdamW step over a flat buffer of parameters, and in the same pass what follows the student's new weights: follow()
// comes from lib/followers_*.wgsl, which binds what it writes from 6 on. A workgroup owns one of COUNT chunks. A chunk lies
// in one parameter, so its multipliers are looked up once. FLOPs: 16 an element, with a teacher 19.
// Bytes: 28 an element, with a teacher 36, with half copies of both 40.
// include lib/optimizer_step.wgsl
struct Chunk {
  // In quads of elements.
  first: u32,
  end: u32,
  // Sub-module, whose coefficient applies.
  module_index: u32,
  last_layer: u32,
  lr_multiplier: f32,
  wd_multiplier: f32,
}

@group(0) @binding(0) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> chunks: array<Chunk>;
@group(0) @binding(2) var<storage, read> step: Step;
@group(0) @binding(3) var<storage, read_write> student: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let k = group.y * groups.x + group.x;
  if (k >= COUNT) {
    return;
  }
  let chunk = chunks[k];
  let rates = step.rates;
  let coefficient = step.coefficients[chunk.module_index];
  let lr = select(rates.lr, rates.last_layer_lr, chunk.last_layer != 0u) * chunk.lr_multiplier;
  let decay = lr * rates.weight_decay * chunk.wd_multiplier;
  let rate = lr * step.correction1;
  let correction2 = step.correction2;
  for (var i = chunk.first + lane; i < chunk.end; i += 256u) {
    var weight = student[i];
    // 0: the gradients are not finite, and student and moments stay as they are.
    if (coefficient != 0.0) {
      let g = gradients[i] * coefficient;
      let m_old = first_moment[i];
      let v_old = second_moment[i];
      let m = m_old + rates.rate1 * (g - m_old);
      let v = v_old + rates.rate2 * (g * g - v_old);
      first_moment[i] = m;
      second_moment[i] = v;
      // Decay and step are subtracted together: 1 - lr * wd would lose most of the decay's digits.
      weight -= decay * weight + rate * (m / (sqrt(v) * correction2 + vec4<f32>(rates.epsilon)));
      student[i] = weight;
    }
    follow(i, weight, rates.teacher_rate);
  }
}
