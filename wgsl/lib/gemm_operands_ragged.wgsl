// A gemm's operands in float32 for any sizes, read one by one; out of range reads as zero. See gemm_operands_quads.wgsl.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;

fn a_at(m: u32, k: u32, end: u32) -> f32 {
  if (m >= sizes.M || k >= end) {
    return 0.0;
  }
  if (LAYOUT == TN) {
    return a[k * sizes.M + m];
  }
  return a[m * sizes.K + k];
}

fn b_at(n: u32, k: u32, end: u32) -> f32 {
  if (n >= sizes.N || k >= end) {
    return 0.0;
  }
  if (LAYOUT == NT) {
    return b[n * sizes.K + k];
  }
  return b[k * sizes.N + n];
}

fn a_quad(m: u32, k: u32, end: u32) -> vec4<f32> {
  if (LAYOUT == TN) {
    return vec4<f32>(a_at(m, k, end), a_at(m + 1u, k, end), a_at(m + 2u, k, end), a_at(m + 3u, k, end));
  }
  return vec4<f32>(a_at(m, k, end), a_at(m, k + 1u, end), a_at(m, k + 2u, end), a_at(m, k + 3u, end));
}

fn b_quad(n: u32, k: u32, end: u32) -> vec4<f32> {
  if (LAYOUT == NT) {
    return vec4<f32>(b_at(n, k, end), b_at(n, k + 1u, end), b_at(n, k + 2u, end), b_at(n, k + 3u, end));
  }
  return vec4<f32>(b_at(n, k, end), b_at(n + 1u, k, end), b_at(n + 2u, k, end), b_at(n + 3u, k, end));
}
