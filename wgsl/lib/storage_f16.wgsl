// Activations in half precision: four neighbours to a Quad of two words. Conversions are core WGSL, so that no adapter needs
// shader-f16 for it. A value past 65,504 becomes infinity, which the optimizer's overflow test finds in the gradients.
alias Quad = vec2<u32>;

fn unpack_quad(quad: Quad) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

fn pack_quad(values: vec4<f32>) -> Quad {
  return vec2<u32>(pack2x16float(values.xy), pack2x16float(values.zw));
}
