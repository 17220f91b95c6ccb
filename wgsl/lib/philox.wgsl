// Philox-4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): encrypts a counter under a key into
// four random words. Counters used here: (index, sub-stream, step, stream); the key is the 64-bit seed.
const PHILOX_M0 = 0xd2511f53u;
const PHILOX_M1 = 0xcd9e8d57u;

// Upper word of the 64-bit product, in 16-bit pieces: WGSL has no 64-bit integers.
fn multiply_high(a: u32, b: u32) -> u32 {
  let a_low = a & 0xffffu;
  let a_high = a >> 16u;
  let b_low = b & 0xffffu;
  let b_high = b >> 16u;
  let middle = a_high * b_low + ((a_low * b_low) >> 16u);
  let carry = (middle & 0xffffu) + a_low * b_high;
  return a_high * b_high + (middle >> 16u) + (carry >> 16u);
}

fn philox4x32(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    c = vec4<u32>(
      multiply_high(PHILOX_M1, c.z) ^ c.y ^ k.x,
      PHILOX_M1 * c.z,
      multiply_high(PHILOX_M0, c.x) ^ c.w ^ k.y,
      PHILOX_M0 * c.x,
    );
    k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// Uniform over [-1, 1) from the upper 24 bits; exact, so a CPU gets the same bits.
fn signed_uniform(words: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(vec4<i32>(words >> vec4<u32>(8u)) - vec4<i32>(8388608)) * 0x1p-23f;
}
