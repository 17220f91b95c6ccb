// (count, mean, sum of squared differences from the mean) of numbers that are met one by one or in groups.

// Welford's update: nothing cancels where the mean is large.
fn with_value(moments: vec3<f32>, value: f32) -> vec3<f32> {
  let count = moments.x + 1.0;
  let before = value - moments.y;
  let mean = moments.y + before / count;
  return vec3<f32>(count, mean, moments.z + before * (value - mean));
}

// Chan's formula. Two empty groups give an empty one.
fn joined_moments(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
  let count = a.x + b.x;
  let share = b.x / max(count, 1.0);
  let apart = b.y - a.y;
  return vec3<f32>(count, a.y + apart * share, a.z + b.z + apart * apart * a.x * share);
}

var<workgroup> moments_scratch: array<vec3<f32>, THREADS>;

// Every invocation of the workgroup must call this (it holds barriers); the first one gets the moments of all. They are
// joined down a binary tree of fixed shape, so they have the same bits on every run.
fn workgroup_moments(index: u32, moments: vec3<f32>) -> vec3<f32> {
  moments_scratch[index] = moments;
  for (var step: u32 = THREADS / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      moments_scratch[index] = joined_moments(moments_scratch[index], moments_scratch[index + step]);
    }
  }
  return moments_scratch[index];
}
