// Column work: a workgroup owns COLUMN_LANES quads of columns of one part of the rows. ROW_LANES invocations share a quad,
// each with every ROW_LANES-th row; their sums go down a binary tree of fixed shape, so they have the same bits on every run.
const COLUMN_THREADS: u32 = COLUMN_LANES * ROW_LANES;
var<workgroup> column_scratch: array<vec4<f32>, COLUMN_THREADS>;

// Every invocation of the workgroup must call this (it holds barriers); the first COLUMN_LANES get their column's sum.
fn column_sum(index: u32, value: vec4<f32>) -> vec4<f32> {
  if (ROW_LANES == 1) {
    return value;
  }
  column_scratch[index] = value;
  for (var step: u32 = COLUMN_THREADS / 2u; step >= COLUMN_LANES; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      column_scratch[index] += column_scratch[index + step];
    }
  }
  let result = column_scratch[index];
  workgroupBarrier();
  return result;
}
