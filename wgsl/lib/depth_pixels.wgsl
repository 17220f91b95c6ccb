// Which pixels of a depth map count, and how far a prediction is off in the logarithm.

// True depth that is finite (by its exponent bits: WGSL may assume that nothing is infinite), above 0 and at most MAX_DEPTH.
fn depth_counts(bits: u32) -> bool {
  let truth = bitcast<f32>(bits);
  return (bits & 0x7f800000u) != 0x7f800000u && truth > 0.0 && truth <= MAX_DEPTH;
}

// ln(prediction + EPS) - ln(truth + EPS); a prediction below 0 counts as 0.
fn log_difference(prediction: f32, truth_bits: u32) -> f32 {
  return log((max(prediction, 0.0) + EPS) / (bitcast<f32>(truth_bits) + EPS));
}

// Derivative of log_difference by the prediction.
fn log_slope(prediction: f32) -> f32 {
  return select(0.0, 1.0 / (max(prediction, 0.0) + EPS), prediction >= 0.0);
}
