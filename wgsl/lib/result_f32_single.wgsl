// Results in float32 one by one, beside storage_f32_single.wgsl.
alias Result = f32;

fn pack_result(value: f32) -> Result {
  return value;
}
