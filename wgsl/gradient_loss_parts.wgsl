// Sums of the multi-scale gradient loss over pictures [height, width], in parts: at each of four strides, over the pixels
// of that grid, |d - d'| for the neighbours d' two grid steps below and to the right, where both count; and how many
// pixels count. d is the logarithmic error. partial [parts, 2, 4]: sums, counts. A workgroup owns `length` pixels, a lane
// every THREADS-th. FLOPs: about 40 a pixel. Bytes: 8 a pixel (neighbours hit caches).
// include lib/depth_pixels.wgsl
// include lib/gradient_loss_scales.wgsl
@group(0) @binding(0) var<storage, read> prediction: array<f32>;
@group(0) @binding(1) var<storage, read> truth: array<u32>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> maps: Maps;
var<workgroup> scratch: array<array<vec4<f32>, 2>, THREADS>;

fn change(error: f32, r: u32) -> f32 {
  let bits = truth[r];
  if (!depth_counts(bits)) {
    return 0.0;
  }
  return abs(error - log_difference(prediction[r], bits));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let end = min(maps.rows, (group.x + 1u) * maps.length);
  var sums = vec4<f32>();
  var counts = vec4<f32>();
  for (var r = group.x * maps.length + index; r < end; r += THREADS) {
    let bits = truth[r];
    if (!depth_counts(bits)) {
      continue;
    }
    let error = log_difference(prediction[r], bits);
    let y = r / maps.width % maps.height;
    let x = r % maps.width;
    for (var s = 0u; s < SCALES; s++) {
      let stride = STRIDES[s];
      if (y % stride != 0u || x % stride != 0u) {
        continue;
      }
      counts[s] += 1.0;
      if (y + 2u * stride < maps.height) {
        sums[s] += change(error, r + 2u * stride * maps.width);
      }
      if (x + 2u * stride < maps.width) {
        sums[s] += change(error, r + 2u * stride);
      }
    }
  }
  scratch[index][0] = sums;
  scratch[index][1] = counts;
  for (var step: u32 = THREADS / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      scratch[index][0] += scratch[index + step][0];
      scratch[index][1] += scratch[index + step][1];
    }
  }
  if (index == 0u) {
    partial[2u * group.x] = scratch[0][0];
    partial[2u * group.x + 1u] = scratch[0][1];
  }
}
