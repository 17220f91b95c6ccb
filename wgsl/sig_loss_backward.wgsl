// dprediction = upstream (a (g - mean) + b) / (prediction + EPS), 0 at pixels that do not count; statistics holds count,
// mean, a and b (sig_loss.wgsl). An invocation owns one pixel. FLOPs: 14 a pixel. Bytes: 12 a pixel.
// include lib/depth_pixels.wgsl
@group(0) @binding(0) var<storage, read> prediction: array<f32>;
@group(0) @binding(1) var<storage, read> truth: array<u32>;
@group(0) @binding(2) var<storage, read> statistics: array<f32>;
@group(0) @binding(3) var<storage, read> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> dprediction: array<f32>;
@group(0) @binding(5) var<storage, read> rows: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let r = (group.y * groups.x + group.x) * 64u + lane;
  if (r >= rows[0]) {
    return;
  }
  let bits = truth[r];
  var slope = 0.0;
  if (depth_counts(bits)) {
    let apart = log_difference(prediction[r], bits) - statistics[1];
    slope = upstream[0] * (statistics[2] * apart + statistics[3]) * log_slope(prediction[r]);
  }
  dprediction[r] = slope;
}
