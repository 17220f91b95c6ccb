// State of the loss scale, which lives on the GPU from step to step (src/tensor/loss_scale.ts). The scale is a power of two
// and its inverse is kept, so that scaling and unscaling are exact. Counts are exact up to 2^24.
struct LossScale {
  scale: f32,
  // 1 / scale.
  inverse: f32,
  // Steps in a row without an overflow since the scale last changed.
  clean_steps: f32,
  applied_steps: f32,
  skipped_steps: f32,
}
