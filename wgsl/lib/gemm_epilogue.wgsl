// What happens to one element of a gemm's result before it is stored. The switches are constants of the prelude:
// BIAS adds bias[n]; then at most one of
// GELU stores gelu(v) and, with KEEP, v itself sizes.pre_activation elements further on, for the backward pass;
// GELU_BACKWARD multiplies by gelu'(extra[m, n]), the pre-activation;
// RESIDUAL stores extra[m, n] + gamma[n] v.
// include lib/erf.wgsl
struct GemmSizes {
  M: u32,
  N: u32,
  K: u32,
  k_per_part: u32,
  pre_activation: u32,
}

fn finish(part: u32, m: u32, n: u32, value: f32) {
  let at = (part * sizes.M + m) * sizes.N + n;
  var v = value;
  if (BIAS) {
    v += bias[n];
  }
  if (GELU) {
    if (KEEP) {
      out[at + sizes.pre_activation] = v;
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

// Loops whose lengths only the GPU knows: the compilers of software adapters would unroll fixed ones, epilogue and all.
fn finish_row(part: u32, m: u32, n: u32, value: vec4<f32>) {
  for (var j = 0u; j < min(4u, sizes.N - n); j++) {
    finish(part, m, n + j, value[j]);
  }
}
