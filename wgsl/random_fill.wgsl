// out[i] = centre + scale * z_i: z uniform over [-1, 1), or standard normal with NORMAL (Box-Muller), from
// Philox under the key seed[0..1] at counter (i / 4, 0, step = seed[2], stream). Four elements an invocation.
// parameters: stream, bits of centre, bits of scale. FLOPs: 3 (20 with NORMAL) an element. Bytes: 4 an element.
// include lib/philox.wgsl
@group(0) @binding(0) var<storage, read> seed: array<u32>;
@group(0) @binding(1) var<storage, read> parameters: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const PI = 3.14159265358979f;

// Two independent normals. The radius takes all 32 bits, so the tails reach 6.7 sigma; log never sees 0, and where its
// error makes log(1) positive, the square root does not see it.
fn box_muller(bits: u32, turn: f32) -> vec2<f32> {
  let u = f32(bits) * 0x1p-32f + 0x1p-33f;
  let radius = sqrt(max(-2.0 * log(u), 0.0));
  return radius * vec2<f32>(cos(PI * turn), sin(PI * turn));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let block = (group.y * groups.x + group.x) * 64u + lane;
  let words = philox4x32(vec4<u32>(block, 0u, seed[2], parameters[0]), vec2<u32>(seed[0], seed[1]));
  let centre = bitcast<f32>(parameters[1]);
  let scale = bitcast<f32>(parameters[2]);
  var z = signed_uniform(words);
  if (NORMAL) {
    z = vec4<f32>(box_muller(words.x, z.y), box_muller(words.z, z.w));
  }
  for (var j = 0u; j < 4u; j++) {
    let i = 4u * block + j;
    if (i < arrayLength(&out)) {
      out[i] = centre + scale * z[j];
    }
  }
}
