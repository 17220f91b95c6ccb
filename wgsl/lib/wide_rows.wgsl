// Wide rows (K prototypes): one workgroup of WIDTH invocations a row; WIDTH is a power of two, 8 to 256.
// The reductions go down a binary tree of fixed shape, so they have the same bits on every run.
var<workgroup> wide_scratch: array<f32, WIDTH>;

// Every invocation of the workgroup must call these (they hold barriers); each gets the result.
fn wide_sum(index: u32, value: f32) -> f32 {
  wide_scratch[index] = value;
  for (var step: u32 = WIDTH / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      wide_scratch[index] += wide_scratch[index + step];
    }
  }
  workgroupBarrier();
  let result = wide_scratch[0];
  workgroupBarrier();
  return result;
}

fn wide_max(index: u32, value: f32) -> f32 {
  wide_scratch[index] = value;
  for (var step: u32 = WIDTH / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      wide_scratch[index] = max(wide_scratch[index], wide_scratch[index + step]);
    }
  }
  workgroupBarrier();
  let result = wide_scratch[0];
  workgroupBarrier();
  return result;
}

// An invocation takes four columns a step, WIDTH apart: four loads are under way at once, and neighbours still touch
// neighbouring addresses. Past the row's end, load the last column (it cannot change a maximum) and leave it out of
// sums.
fn four_columns(first: u32) -> vec4<u32> {
  return first + vec4<u32>(0u, 1u, 2u, 3u) * WIDTH;
}

fn max_of_four(v: vec4<f32>) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn sum_of_four(v: vec4<f32>, inside: vec4<bool>) -> f32 {
  return dot(select(vec4<f32>(0.0), v, inside), vec4<f32>(1.0));
}
