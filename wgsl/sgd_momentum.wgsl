// velocity = MOMENTUM velocity + gradient, then weight -= rate velocity: PyTorch's SGD without dampening, Nesterov or decay,
// over COUNT quads of weights of several heads, `per_head` quads one after the other for each, with a rate a head.
// An invocation owns one quad. FLOPs: 16 COUNT. Bytes: 80 COUNT.
struct Sizes {
  count: u32,
  per_head: u32,
  momentum: f32,
}
@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> rates: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> velocity: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= sizes.count) {
    return;
  }
  let moved = sizes.momentum * velocity[i] + gradient[i];
  velocity[i] = moved;
  weight[i] -= rates[i / sizes.per_head] * moved;
}
