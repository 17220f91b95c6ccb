// A gemm's operands where the contiguous dimension of each holds whole quads; out of range reads as zero.
// a_quad: a's values at (m, k) to (m, k + 3), or with TN at (m, k) to (m + 3, k). b_quad likewise: along N unless NT.
@group(0) @binding(0) var<storage, read> a: array<Quad>;
@group(0) @binding(1) var<storage, read> b: array<Quad>;

fn a_quad(m: u32, k: u32, end: u32) -> vec4<f32> {
  if (m >= sizes.M || k >= end) {
    return vec4<f32>();
  }
  if (LAYOUT == TN) {
    return unpack_quad(a[(k * sizes.M + m) / 4u]);
  }
  return unpack_quad(a[(m * sizes.K + k) / 4u]);
}

fn b_quad(n: u32, k: u32, end: u32) -> vec4<f32> {
  if (n >= sizes.N || k >= end) {
    return vec4<f32>();
  }
  if (LAYOUT == NT) {
    return unpack_quad(b[(n * sizes.K + k) / 4u]);
  }
  return unpack_quad(b[(k * sizes.N + n) / 4u]);
}
