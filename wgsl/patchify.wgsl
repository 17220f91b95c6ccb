// Images [COUNT, 3, H, W] cut into P x P patches: out[FIRST_ROW + patch][c P P + y P + x], the columns of the patch gemm,
// in rows of QUADS quads of which the elements past 3 P P are zero.
// BYTES: pixels are u8 [COUNT, H, W, 3], four to a word, and are normalised on the way: (v / 255 - mean[c]) / std[c].
// Otherwise they are f32 (as bits), channels first, used as they are. An invocation owns one quad of out.
// FLOPs: 2 per pixel and channel with BYTES, else 0. Bytes: 1 (or 4) per pixel and channel, and those of out.
@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<Quad>;
const MEAN = vec3<f32>(0.485, 0.456, 0.406);
const STD = vec3<f32>(0.229, 0.224, 0.225);
const ACROSS: u32 = W / P;
const PATCHES: u32 = (H / P) * ACROSS;

fn element(row: u32, column: u32) -> f32 {
  if (column >= 3 * P * P) {
    return 0.0;
  }
  let image = row / PATCHES;
  let patch_index = row % PATCHES;
  let channel = column / (P * P);
  let y = patch_index / ACROSS * P + column % (P * P) / P;
  let x = patch_index % ACROSS * P + column % P;
  if (BYTES) {
    let at = ((image * H + y) * W + x) * 3u + channel;
    let byte = f32(extractBits(pixels[at / 4u], at % 4u * 8u, 8u));
    return (byte / 255.0 - MEAN[channel]) / STD[channel];
  }
  return bitcast<f32>(pixels[((image * 3u + channel) * H + y) * W + x]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * PATCHES * QUADS) {
    return;
  }
  let row = i / QUADS;
  let c = i % QUADS * 4u;
  let values = vec4<f32>(element(row, c), element(row, c + 1u), element(row, c + 2u), element(row, c + 3u));
  out[FIRST_ROW * QUADS + i] = pack_quad(values);
}
