// lib/followers_teacher.wgsl, and the half copies of student and teacher, which share one buffer: first all of the
// student's, then all of the teacher's.
// include lib/storage_f16.wgsl
@group(0) @binding(6) var<storage, read_write> teacher: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> halves: array<Quad>;

fn follow(i: u32, weight: vec4<f32>, teacher_rate: f32) {
  let old = teacher[i];
  let average = old + teacher_rate * (weight - old);
  teacher[i] = average;
  halves[i] = pack_quad(weight);
  halves[arrayLength(&halves) / 2u + i] = pack_quad(average);
}
