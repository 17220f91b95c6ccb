// The gradient of resize_bilinear.wgsl: each input gathers from the outputs that it had a share in. ranges holds, for every
// line of the input, then for every column, the first of those outputs and the one past the last; taps: as forward.
// `channels` in quads. An invocation owns one quad of dx. FLOPs: 3 per value and output in range. Bytes: 4 a value.
struct Sizes {
  pictures: u32,
  in_height: u32,
  in_width: u32,
  out_height: u32,
  out_width: u32,
  channels: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<Quad>;
@group(0) @binding(1) var<storage, read> taps: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<Quad>;
@group(0) @binding(4) var<storage, read> sizes: Sizes;

// The share of input `at` of `size` in the output that has this tap.
fn share_of(at: u32, size: u32, tap: vec2<u32>) -> f32 {
  let share = bitcast<f32>(tap.y);
  return select(0.0, 1.0 - share, tap.x == at) + select(0.0, share, min(tap.x + 1u, size - 1u) == at);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let pixel = i / sizes.channels;
  let c = i % sizes.channels;
  let picture = pixel / (sizes.in_height * sizes.in_width);
  if (picture >= sizes.pictures) {
    return;
  }
  let v = pixel / sizes.in_width % sizes.in_height;
  let u = pixel % sizes.in_width;
  let down = ranges[v];
  let across = ranges[sizes.in_height + u];
  var sum = Quad();
  for (var j = down.x; j < down.y; j++) {
    var line = Quad();
    for (var k = across.x; k < across.y; k++) {
      let at = ((picture * sizes.out_height + j) * sizes.out_width + k) * sizes.channels + c;
      line += dy[at] * share_of(u, sizes.in_width, taps[sizes.out_height + k]);
    }
    sum += line * share_of(v, sizes.in_height, taps[j]);
  }
  dx[i] = sum;
}
