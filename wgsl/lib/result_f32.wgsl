// Results in float32, for kernels whose output is stored otherwise than their input.
alias Result = vec4<f32>;

fn pack_result(values: vec4<f32>) -> Result {
  return values;
}

fn unpack_result(result: Result) -> vec4<f32> {
  return result;
}
