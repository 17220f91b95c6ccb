// What happens to one element of a gemm's result before it is stored. The switches are constants of the prelude:
// BIAS adds bias[n]; then at most one of
// GELU stores gelu(v) and, PRE_ACTIVATION elements further on, v itself for the backward pass (if that is not 0);
// GELU_BACKWARD multiplies by gelu'(extra[m, n]), the pre-activation;
// RESIDUAL stores extra[m, n] + gamma[n] v.
// include lib/erf.wgsl
fn finish(part: u32, m: u32, n: u32, value: f32) {
  let at = (part * M + m) * N + n;
  var v = value;
  if (BIAS) {
    v += bias[n];
  }
  if (GELU) {
    if (PRE_ACTIVATION != 0) {
      out[at + PRE_ACTIVATION] = v;
    }
    v = gelu(v);
  }
  if (GELU_BACKWARD) {
    v *= gelu_derivative(extra[at]);
  }
  if (RESIDUAL) {
    v = extra[at] + gamma[n] * v;
  }
  out[at] = v;
}
