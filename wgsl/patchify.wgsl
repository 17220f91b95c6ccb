// Images [COUNT, 3, H, W] cut into P x P patches: out[FIRST_ROW + patch][c P P + y P + x], the columns of the patch gemm,
// in rows of PITCH of which those past 3 P P are zero.
// BYTES: pixels are u8 [COUNT, H, W, 3], four to a word, and are normalised on the way: (v / 255 - mean[c]) / std[c].
// Otherwise they are f32 (as bits), channels first, used as they are. An invocation owns one element of out.
// FLOPs: 2 per element with BYTES, else 0. Bytes: 4 (or 1) + 4 per element.
@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
const MEAN = vec3<f32>(0.485, 0.456, 0.406);
const STD = vec3<f32>(0.229, 0.224, 0.225);
const ACROSS: u32 = W / P;
const PATCHES: u32 = (H / P) * ACROSS;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * PATCHES * PITCH) {
    return;
  }
  let row = i / PITCH;
  let column = i % PITCH;
  if (column >= 3 * P * P) {
    out[(FIRST_ROW + row) * PITCH + column] = 0.0;
    return;
  }
  let image = row / PATCHES;
  let patch_index = row % PATCHES;
  let channel = column / (P * P);
  let y = patch_index / ACROSS * P + column % (P * P) / P;
  let x = patch_index % ACROSS * P + column % P;
  var value: f32;
  if (BYTES) {
    let at = ((image * H + y) * W + x) * 3u + channel;
    let byte = f32(extractBits(pixels[at / 4u], at % 4u * 8u, 8u));
    value = (byte / 255.0 - MEAN[channel]) / STD[channel];
  } else {
    value = bitcast<f32>(pixels[((image * 3u + channel) * H + y) * W + x]);
  }
  out[(FIRST_ROW + row) * PITCH + column] = value;
}
