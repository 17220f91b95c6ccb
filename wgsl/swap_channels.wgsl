// swapped[c, o, tap] = weight[o, c, tap]: a convolution's weight for the gradient of its input. An invocation owns one
// value. FLOPs: 0. Bytes: 8 a value.
struct Sizes {
  outputs: u32,
  channels: u32,
  taps: u32,
}
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> swapped: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= sizes.outputs * sizes.channels * sizes.taps) {
    return;
  }
  let o = i / sizes.taps % sizes.outputs;
  let c = i / sizes.taps / sizes.outputs;
  swapped[i] = weight[(o * sizes.channels + c) * sizes.taps + i % sizes.taps];
}
