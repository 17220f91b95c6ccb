// The gradient of the multi-scale gradient loss: each pixel that counts gathers the signs of d - d' against its four
// neighbours at every scale whose grid it lies on, times that scale's weight; 0 where d = d'. See gradient_loss_parts.wgsl.
// An invocation owns one pixel. FLOPs: about 80 a pixel. Bytes: 12 a pixel (neighbours hit caches).
// include lib/depth_pixels.wgsl
// include lib/gradient_loss_scales.wgsl
@group(0) @binding(0) var<storage, read> prediction: array<f32>;
@group(0) @binding(1) var<storage, read> truth: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> dprediction: array<f32>;
@group(0) @binding(5) var<storage, read> maps: Maps;

fn sign_against(error: f32, r: u32) -> f32 {
  let bits = truth[r];
  if (!depth_counts(bits)) {
    return 0.0;
  }
  return sign(error - log_difference(prediction[r], bits));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let r = (group.y * groups.x + group.x) * 64u + lane;
  if (r >= maps.rows) {
    return;
  }
  let bits = truth[r];
  if (!depth_counts(bits)) {
    dprediction[r] = 0.0;
    return;
  }
  let error = log_difference(prediction[r], bits);
  let y = r / maps.width % maps.height;
  let x = r % maps.width;
  var slope = 0.0;
  for (var s = 0u; s < SCALES; s++) {
    let stride = STRIDES[s];
    if (y % stride != 0u || x % stride != 0u) {
      continue;
    }
    let step = 2u * stride;
    var signs = 0.0;
    if (y + step < maps.height) {
      signs += sign_against(error, r + step * maps.width);
    }
    if (y >= step) {
      signs += sign_against(error, r - step * maps.width);
    }
    if (x + step < maps.width) {
      signs += sign_against(error, r + step);
    }
    if (x >= step) {
      signs += sign_against(error, r - step);
    }
    slope += signs * weights[0][s];
  }
  dprediction[r] = upstream[0] * slope * log_slope(prediction[r]);
}
