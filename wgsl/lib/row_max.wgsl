// The largest value of a row's lanes, in every one of them; beside lib/rows.wgsl. As row_sum: every invocation must call it.
fn row_max(index: u32, value: f32) -> f32 {
  if (LANES == 1) {
    return value;
  }
  row_scratch[index] = value;
  for (var step: u32 = LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index % LANES < step) {
      row_scratch[index] = max(row_scratch[index], row_scratch[index + step]);
    }
  }
  workgroupBarrier();
  let result = row_scratch[index - index % LANES];
  workgroupBarrier();
  return result;
}
