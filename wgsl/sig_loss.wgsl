// The scale-invariant loss from its moments: sqrt(var + 0.15 mean²) with the unbiased variance, without it while warm_up is
// not 0; 0 where no pixel counts, and one pixel has no variance. statistics = count, mean, and the factors a, b of the
// gradient dL/dg = a (g - mean) + b, which are 0 where the loss is. One workgroup joins the parts in a fixed order.
// FLOPs: 8 parts. Bytes: 12 parts.
// include lib/moments.wgsl
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read> warm_up: array<u32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read> parts: array<u32>;

// Below it the loss is a rounding of 0, whose root has no slope.
const SMALLEST = 1e-18;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) index: u32) {
  var moments = vec3<f32>();
  for (var p = index; p < parts[0]; p += THREADS) {
    moments = joined_moments(moments, vec3<f32>(partial[3u * p], partial[3u * p + 1u], partial[3u * p + 2u]));
  }
  moments = workgroup_moments(index, moments);
  if (index != 0u) {
    return;
  }
  let count = moments.x;
  let mean = moments.y;
  let spread = select(0.0, 1.0 / max(count - 1.0, 1.0), count > 1.0 && warm_up[0] == 0u);
  let value = sqrt(max(moments.z * spread + MEAN_WEIGHT * mean * mean, 0.0));
  let inverse = select(0.0, 1.0 / max(value, SMALLEST), value > SMALLEST);
  statistics[0] = count;
  statistics[1] = mean;
  statistics[2] = spread * inverse;
  statistics[3] = MEAN_WEIGHT * mean / max(count, 1.0) * inverse;
  loss[0] = value;
}
