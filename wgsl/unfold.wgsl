// The 3 x 3 neighbourhoods of pixels side by side: out[r - first, 9 c + 3 ky + kx] = x[pixel of tap (ky, kx) of r, c], 0
// outside of the picture, for `rows` rows r from `first` on. Forward, r is a pixel of a convolution's output and the tap
// lies at STRIDE r + tap - 1. TRANSPOSED, for the gradient of its input, r is a pixel of the input and the tap the output
// pixel that saw r through it, at (r + 1 - tap) / STRIDE, if there is one. An invocation owns TAPS values of out: one,
// or all of a pixel and channel. FLOPs: 0. Bytes: 4 a value of out and of x.
struct Sizes {
  // Values of out, by TAPS.
  count: u32,
  first: u32,
  // Pixels of the grid that r runs over, then of the one that taps are read from.
  height: u32,
  width: u32,
  x_height: u32,
  x_width: u32,
  channels: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: Sizes;

// Where a tap of position `at` lies along one axis, or past every picture if nowhere.
fn tapped(at: u32, tap: u32, size: u32) -> u32 {
  const NOWHERE = 0xffffffffu;
  if (TRANSPOSED) {
    let ahead = at + 1u - tap;
    // An unsigned -1 fails the test of the size too: half of it is still beyond any picture.
    return select(NOWHERE, ahead / STRIDE, ahead % STRIDE == 0u && ahead / STRIDE < size);
  }
  let place = at * STRIDE + tap - 1u;
  return select(NOWHERE, place, place < size);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= sizes.count) {
    return;
  }
  let columns = 9u * sizes.channels;
  let r = sizes.first + i * TAPS / columns;
  let column = i * TAPS % columns;
  let picture = r / (sizes.height * sizes.width);
  let v = r / sizes.width % sizes.height;
  let u = r % sizes.width;
  for (var t = 0u; t < TAPS; t++) {
    let tap = column % 9u + t;
    let j = tapped(v, tap / 3u, sizes.x_height);
    let k = tapped(u, tap % 3u, sizes.x_width);
    var value = 0.0;
    if (j < sizes.x_height && k < sizes.x_width) {
      value = x[((picture * sizes.x_height + j) * sizes.x_width + k) * sizes.channels + column / 9u];
    }
    out[i * TAPS + t] = value;
  }
}
