// AdamW without a teacher and without half copies: nothing follows the weights.
fn follow(i: u32, weight: vec4<f32>, teacher_rate: f32) {
}
