// partial[k] = (sum of squares, number of unusable elements) of chunk k of a flat buffer of gradients.
// Unusable: not finite, or 2^48 and more, so that the squares of 2^31 elements cannot overflow; tested by exponent bits,
// since WGSL may assume that NaN and infinity do not occur. Unusable elements are left out of the sum.
// chunks [COUNT] = (first, end) in quads of elements. A workgroup owns one chunk.
// FLOPs: 2 an element. Bytes: 4 an element.
const OVERFLOW_EXPONENT = (127u + 48u) << 23u;
@group(0) @binding(0) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> chunks: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec2<f32>>;

var<workgroup> sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let k = group.y * groups.x + group.x;
  let chunk = chunks[min(k, COUNT - 1u)];
  var squares = vec4<f32>();
  var unusable = vec4<f32>();
  for (var i = chunk.x + lane; i < chunk.y; i += 64u) {
    let g = gradients[i];
    let bad = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7f800000u)) >= vec4<u32>(OVERFLOW_EXPONENT);
    let usable = select(g, vec4<f32>(), bad);
    squares += usable * usable;
    unusable += select(vec4<f32>(), vec4<f32>(1.0), bad);
  }
  sums[lane] = vec2<f32>(
    (squares.x + squares.y) + (squares.z + squares.w),
    (unusable.x + unusable.y) + (unusable.z + unusable.w),
  );
  for (var step = 32u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      sums[lane] += sums[lane + step];
    }
  }
  if (lane == 0u && k < COUNT) {
    partial[k] = sums[0];
  }
}
