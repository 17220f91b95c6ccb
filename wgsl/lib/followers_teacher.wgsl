// The teacher follows the weights by its moving average: teacher += (1 - momentum) * (student - teacher)
// (specification 2.8), also in a step that is skipped.
@group(0) @binding(6) var<storage, read_write> teacher: array<vec4<f32>>;

fn follow(i: u32, weight: vec4<f32>, teacher_rate: f32) {
  let old = teacher[i];
  teacher[i] = old + teacher_rate * (weight - old);
}
