// Float32 one by one, for elementwise kernels over counts that are no multiple of four (biases, losses).
alias Quad = f32;

fn unpack_quad(quad: Quad) -> f32 {
  return quad;
}

fn pack_quad(value: f32) -> Quad {
  return value;
}
