// out[n, k y + i, k x + j, o] = blocks[n, y, x, o k² + i k + j] + bias[o]: every pixel of blocks [rows of height x width,
// channels k²] becomes k x k pixels of `channels`, the last stage of a transposed convolution with kernel = stride = k.
// An invocation owns one value of out. FLOPs: 1 a value. Bytes: 8 a value.
struct Sizes {
  // Values of out.
  count: u32,
  height: u32,
  width: u32,
  channels: u32,
  k: u32,
}
@group(0) @binding(0) var<storage, read> blocks: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= sizes.count) {
    return;
  }
  let k = sizes.k;
  let o = index % sizes.channels;
  let pixel = index / sizes.channels;
  let u = pixel % (sizes.width * k);
  // Lines of all pictures in a row: their heights are multiples of k.
  let line = pixel / (sizes.width * k);
  let row = line / k * sizes.width + u / k;
  out[index] = blocks[((row * sizes.channels + o) * k + line % k) * k + u % k] + bias[o];
}
