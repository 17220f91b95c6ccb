// What attention's backward kernels for CPU adapters have in common beside lib/attention_direct.wgsl: they read the gradient of
// the output as the forward kernel reads qkv, and store quads of d_qkv.
// include lib/attention_direct.wgsl
fn upstream_owned(at: vec2<u32>) -> Owned {
  let first = unpack_quad(d_out[at.x]);
  var second = first;
  if (LANES == 4) {
    second = unpack_quad(d_out[at.y]);
  }
  return gather(first, second);
}

fn upstream_met(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(unpack_quad(d_out[at.x]), unpack_quad(d_out[at.y]), unpack_quad(d_out[at.z]), unpack_quad(d_out[at.w]));
}

fn subtract(a: Owned, b: OwnedValue) -> Owned {
  return Owned(
    mat4x4<f32>(a.low[0] - b.low.x, a.low[1] - b.low.y, a.low[2] - b.low.z, a.low[3] - b.low.w),
    mat4x4<f32>(a.high[0] - b.high.x, a.high[1] - b.high.y, a.high[2] - b.high.z, a.high[3] - b.high.w));
}

fn hadamard(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

// a o b
fn multiply(a: Owned, b: Owned) -> Owned {
  return Owned(hadamard(a.low, b.low), hadamard(a.high, b.high));
}

fn store_quad(at: u32, value: vec4<f32>) {
  d_qkv[at] = pack_quad(value);
}
