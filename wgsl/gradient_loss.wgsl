// loss = sum over the four scales of sum / count, a scale without pixels that count adding 0; weights [4] keeps 1 / count,
// or 0. partial: see gradient_loss_parts.wgsl. One workgroup: lanes add every THREADS-th part in turn, then a tree of fixed
// shape adds the lanes. FLOPs: 8 parts. Bytes: 32 parts.
@group(0) @binding(0) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read> parts: array<u32>;
var<workgroup> scratch: array<array<vec4<f32>, 2>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) index: u32) {
  var sums = vec4<f32>();
  var counts = vec4<f32>();
  for (var p = index; p < parts[0]; p += THREADS) {
    sums += partial[2u * p];
    counts += partial[2u * p + 1u];
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
    let all = scratch[0][1];
    let weight = select(vec4<f32>(), 1.0 / max(all, vec4<f32>(1.0)), all > vec4<f32>());
    weights[0] = weight;
    loss[0] = dot(scratch[0][0], weight);
  }
}
