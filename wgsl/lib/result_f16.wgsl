// Results in half precision, for kernels whose output is stored otherwise than their input.
alias Result = vec2<u32>;

fn pack_result(values: vec4<f32>) -> Result {
  return vec2<u32>(pack2x16float(values.xy), pack2x16float(values.zw));
}

fn unpack_result(result: Result) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(result.x), unpack2x16float(result.y));
}
