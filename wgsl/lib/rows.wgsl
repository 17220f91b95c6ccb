// Row work: ROWS rows a workgroup, LANES invocations a row; LANES is a power of two and ROWS * LANES is ROW_THREADS.
// The sums go down a binary tree of fixed shape, so they have the same bits on every run.
const ROW_THREADS: u32 = 64u;
const ROWS: u32 = ROW_THREADS / LANES;
var<workgroup> row_scratch: array<f32, ROW_THREADS>;

// Every invocation of the workgroup must call this (it holds barriers); each lane gets its row's sum.
fn row_sum(index: u32, value: f32) -> f32 {
  if (LANES == 1) {
    return value;
  }
  row_scratch[index] = value;
  for (var step: u32 = LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index % LANES < step) {
      row_scratch[index] += row_scratch[index + step];
    }
  }
  workgroupBarrier();
  let result = row_scratch[index - index % LANES];
  workgroupBarrier();
  return result;
}
