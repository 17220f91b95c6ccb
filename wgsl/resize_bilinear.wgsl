// Bilinear resize of pictures [in_height, in_width, channels]: each output lies between the inputs j, j + 1 of its line and
// k, k + 1 of its column (the last one stands in for what lies past it). taps holds j and the share of j + 1, as bits, for
// every line of the output, then for every column. `channels` in quads. An invocation owns one quad of the output.
// FLOPs: 9 a value. Bytes: 4 a value of input and output.
struct Sizes {
  pictures: u32,
  in_height: u32,
  in_width: u32,
  out_height: u32,
  out_width: u32,
  channels: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> taps: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<Quad>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let pixel = i / sizes.channels;
  let c = i % sizes.channels;
  let picture = pixel / (sizes.out_height * sizes.out_width);
  if (picture >= sizes.pictures) {
    return;
  }
  let down = taps[pixel / sizes.out_width % sizes.out_height];
  let across = taps[sizes.out_height + pixel % sizes.out_width];
  let line = picture * sizes.in_height + down.x;
  let next_line = picture * sizes.in_height + min(down.x + 1u, sizes.in_height - 1u);
  let left = across.x;
  let right = min(left + 1u, sizes.in_width - 1u);
  let share = bitcast<f32>(across.y);
  let above = x[(line * sizes.in_width + left) * sizes.channels + c] * (1.0 - share)
    + x[(line * sizes.in_width + right) * sizes.channels + c] * share;
  let below = x[(next_line * sizes.in_width + left) * sizes.channels + c] * (1.0 - share)
    + x[(next_line * sizes.in_width + right) * sizes.channels + c] * share;
  let share_down = bitcast<f32>(down.y);
  y[i] = above * (1.0 - share_down) + below * share_down;
}
