// dblocks[n, y, x, o k² + i k + j] = dout[n, k y + i, k x + j, o]: the gradient of depth_to_space.wgsl.
// An invocation owns one value of dblocks. FLOPs: 0. Bytes: 8 a value.
struct Sizes {
  // Values of dblocks.
  count: u32,
  height: u32,
  width: u32,
  channels: u32,
  k: u32,
}
@group(0) @binding(0) var<storage, read> dout: array<f32>;
@group(0) @binding(1) var<storage, read_write> dblocks: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= sizes.count) {
    return;
  }
  let k = sizes.k;
  let j = index % k;
  let i = index / k % k;
  let o = index / (k * k) % sizes.channels;
  let row = index / (k * k * sizes.channels);
  let line = row / sizes.width * k + i;
  let u = row % sizes.width * k + j;
  dblocks[index] = dout[(line * sizes.width * k + u) * sizes.channels + o];
}
