// What happens to four neighbouring columns of a gemm's result before they are stored. The switches are constants of the
// prelude: BIAS adds bias[n]; then at most one of
// GELU stores gelu(v), and keep() may hold on to v itself for the backward pass;
// GELU_BACKWARD multiplies by gelu'(extra[m, n]), the pre-activation;
// RESIDUAL stores extra[m, n] + gamma[n] v;
// ADD adds to what out holds.
// How out, extra, bias and gamma are stored is the business of gemm_result_quads.wgsl or gemm_result_ragged.wgsl.
// include lib/erf.wgsl
struct GemmSizes {
  M: u32,
  N: u32,
  K: u32,
  k_per_part: u32,
}
@group(0) @binding(SIZES) var<storage, read> sizes: GemmSizes;

// n is a multiple of 4 and m < M, n < N.
fn finish_quad(part: u32, m: u32, n: u32, value: vec4<f32>) {
  let at = (part * sizes.M + m) * sizes.N + n;
  var v = value;
  if (BIAS) {
    v += bias_quad(n);
  }
  if (GELU) {
    keep(at, n, v);
    v = gelu(v);
  }
  if (GELU_BACKWARD) {
    v *= gelu_derivative(extra_quad(at, n));
  }
  if (RESIDUAL) {
    v = extra_quad(at, n) + gamma_quad(n) * v;
  }
  if (ADD) {
    v += out_quad(at, n);
  }
  store_quad(at, n, v);
}
